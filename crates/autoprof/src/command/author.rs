//! `autoprof plugin new` and `autoprof plugin test`: for those who write profilers.
use std::fs;

use autoprof_core::{Registry, args::is_name};
use autoprof_loader::{Plugins, load_into};
use autoprof_plugin::conformance::{self, Check, Verdict};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{cli::Global, exit::Failure, print, print_json, wire};

const MANIFEST: &str = include_str!("../template/Cargo.toml.in");
const LIBRARY: &str = include_str!("../template/lib.rs.in");

/// Writes a crate with a profiler that builds, passes its tests and runs as it is.
pub fn new(name: &str, autoprof: Option<&Utf8Path>, output: Option<&Utf8Path>) -> Result<u8, Failure> {
    let fits = name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.ends_with('-') && !name.contains("--");
    // `Self` cannot be a type's name.
    if !is_name(name) || !fits || name == "self" || name.len() > 64 {
        return Err(Failure::with_hint(
            format!("{name:?} cannot be a profiler's name"),
            "a small letter, then small letters, digits and single dashes, 64 at most",
        ));
    }
    let directory = output.map_or_else(|| Utf8PathBuf::from(format!("autoprof-profiler-{name}")), Utf8Path::to_owned);
    if directory.exists() {
        return Err(Failure::with_hint(format!("{directory} is there already"), "-o names another directory"));
    }
    let dependency = match autoprof {
        None => format!("\"{}\"", env!("CARGO_PKG_VERSION")),
        Some(source) => {
            let path = source.join("crates/autoprof-plugin");
            if !path.join("Cargo.toml").exists() {
                return Err(Failure::usage(format!(
                    "{source} has no crates/autoprof-plugin: it is no clone of autoprof"
                )));
            }
            format!("{{ path = {:?} }}", path.canonicalize_utf8()?.as_str())
        }
    };
    let fill = |text: &str| {
        text.replace("{name}", name).replace("{type}", &type_name(name)).replace("{dependency}", &dependency)
    };
    fs::create_dir_all(directory.join("src"))?;
    fs::write(directory.join("Cargo.toml"), fill(MANIFEST))?;
    fs::write(directory.join("src/lib.rs"), fill(LIBRARY))?;
    fs::write(directory.join(".gitignore"), "/target/\n")?;
    let file = format!("libautoprof_profiler_{}.so", name.replace('-', "_"));
    print(&format!(
        "{directory} is written. Next:\n  cd {directory}\n  cargo test\n  cargo build --release\n  \
         autoprof plugin test target/release/{file}\n  autoprof --plugin-dir target/release run -p {name} -- sleep 5\n"
    ));
    Ok(0)
}

/// `my-tool` as `MyTool`.
fn type_name(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    name.split('-').map(capital).collect()
}

/// Loads a plugin's file and looks at every profiler in it.
pub fn test(global: &Global, file: &Utf8Path, json: bool) -> Result<u8, Failure> {
    let path = file.canonicalize_utf8().map_err(|e| Failure::usage(format!("cannot find {file}: {e}")))?;
    let directory = path.parent().unwrap_or(Utf8Path::new("/")).to_owned();
    let plugins = Plugins::scan_only(&[directory], wire::policy(global)?);
    if let Some(rejected) = plugins.rejected().iter().find(|rejected| rejected.path == path) {
        return Err(Failure::usage(format!("{file} cannot be loaded: {}", rejected.error)));
    }
    let Some(candidate) = plugins.candidates().iter().find(|candidate| candidate.path == path) else {
        return Err(Failure::usage(format!("{file} is no plugin: its name has to end in .so")));
    };
    let mut registry = Registry::default();
    load_into(candidate, &mut registry)
        .map_err(|e| Failure::usage(format!("{file} cannot be loaded: {}", crate::exit::with_sources(&e))))?;
    let results: Vec<(String, Vec<Check>)> =
        registry.encoders().map(|(name, encoder)| (name.to_owned(), conformance::check(&**encoder))).collect();
    let failed = results.iter().map(|(_, checks)| conformance::failures(checks).len()).sum::<usize>();
    if json {
        let all: Vec<_> =
            results.iter().map(|(name, checks)| serde_json::json!({"profiler": name, "checks": checks})).collect();
        print_json(&all);
    } else {
        let note = &candidate.note;
        print(&format!(
            "{} {}: the file, its note, its owner and its interface version are in order\n",
            note.name, note.version
        ));
        for (name, checks) in &results {
            print(&format!("\n{name}\n"));
            checks.iter().for_each(|check| print(&line(check)));
        }
        if results.is_empty() {
            print("it has no profiler: transports and signalers are not tested here\n");
        }
    }
    Ok(u8::from(failed > 0))
}

fn line(check: &Check) -> String {
    match &check.verdict {
        Verdict::Ok => format!("  ok       {}\n", check.what),
        Verdict::Warning(why) => format!("  warning  {}: {why}\n", check.what),
        Verdict::Failed(why) => format!("  FAILED   {}: {why}\n", check.what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_type() {
        assert_eq!(type_name("my-tool2"), "MyTool2");
    }
}
