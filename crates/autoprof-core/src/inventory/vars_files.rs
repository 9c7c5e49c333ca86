//! `group_vars` and `host_vars` beside an inventory.
//!
//! Source: `DataLoader.find_vars_files` of Ansible.
use std::{collections::BTreeSet, fs, io};

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    error::{BadInventory, Problem},
    literal,
    nested::{is_null, name},
    tree::Tree,
    vars::{Place, Value, Vars},
};
use crate::yaml::{self, Content};

/// Endings of files with variables, in the order in which they are looked for.
const ENDINGS: [&str; 4] = ["", ".yml", ".yaml", ".json"];
/// Deepest directories in directories.
const MAX_DEPTH: usize = 16;

/// Reads what is in the directories for the groups and hosts of a tree; gives what was left out, and why.
pub(super) fn read(
    directory: &Utf8Path,
    tree: &mut Tree,
    files: &mut Vec<Utf8PathBuf>,
) -> Result<Vec<String>, BadInventory> {
    let mut warnings = Vec::new();
    let groups = entries(&directory.join("group_vars"))?;
    for group in &mut tree.groups {
        load(&directory.join("group_vars"), &groups, &group.name, &mut group.file_vars, files, &mut warnings)?;
    }
    let hosts = entries(&directory.join("host_vars"))?;
    for host in &mut tree.hosts {
        load(&directory.join("host_vars"), &hosts, &host.name, &mut host.file_vars, files, &mut warnings)?;
    }
    Ok(warnings)
}

/// Names in a directory; none where there is no such directory.
fn entries(directory: &Utf8Path) -> Result<BTreeSet<String>, BadInventory> {
    match directory.read_dir_utf8() {
        Ok(entries) => Ok(entries.filter_map(|entry| Some(entry.ok()?.file_name().to_owned())).collect()),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(BTreeSet::new()),
        Err(e) => Err(unreadable(directory, &e)),
    }
}

fn unreadable(path: &Utf8Path, error: &io::Error) -> BadInventory {
    BadInventory { file: Some(path.to_owned()), line: None, problem: Problem::Read(error.to_string()) }
}

fn load(
    directory: &Utf8Path,
    known: &BTreeSet<String>,
    name: &str,
    vars: &mut Vars,
    files: &mut Vec<Utf8PathBuf>,
    warnings: &mut Vec<String>,
) -> Result<(), BadInventory> {
    let Some(found) = ENDINGS.iter().map(|ending| format!("{name}{ending}")).find(|file| known.contains(file)) else {
        return Ok(());
    };
    let mut paths = Vec::new();
    collect(&directory.join(found), 0, &mut paths)?;
    for path in paths {
        one(&path, vars, files, warnings)?;
    }
    Ok(())
}

/// A file, or the files of a directory in their order, without hidden ones and backups.
fn collect(path: &Utf8Path, depth: usize, out: &mut Vec<Utf8PathBuf>) -> Result<(), BadInventory> {
    if !path.is_dir() {
        out.push(path.to_owned());
        return Ok(());
    }
    for name in entries(path)?.iter().filter(|name| !name.starts_with('.') && !name.ends_with('~')) {
        let below = path.join(name);
        let ending = below.extension().map(|e| format!(".{e}")).unwrap_or_default();
        if (below.is_dir() && ending.is_empty() && depth < MAX_DEPTH)
            || (below.is_file() && ENDINGS.contains(&&*ending))
        {
            collect(&below, depth + 1, out)?;
        }
    }
    Ok(())
}

fn one(
    path: &Utf8Path,
    vars: &mut Vars,
    files: &mut Vec<Utf8PathBuf>,
    warnings: &mut Vec<String>,
) -> Result<(), BadInventory> {
    let text = super::read_file(path)?;
    let bad = |line: Option<usize>, problem: Problem| BadInventory { file: Some(path.to_owned()), line, problem };
    if text.starts_with("$ANSIBLE_VAULT") {
        warnings.push(format!("{path}: encrypted with ansible-vault, not read"));
        return Ok(());
    }
    let Some(root) = yaml::nodes(&text).map_err(|e| bad(None, e.into()))? else { return Ok(()) };
    let entries = match &root.content {
        Content::Map(entries) => entries,
        _ if is_null(&root) => return Ok(()),
        _ => return Err(bad(Some(root.line), Problem::NotVars)),
    };
    let file = files.len();
    files.push(path.to_owned());
    for (key, value) in entries {
        // A key that is no text names no variable of ours.
        let Ok(variable) = name(key) else { continue };
        vars.set(&variable, Value::of_yaml(value), Place { file, line: key.line });
    }
    Ok(())
}

/// Whether a file of a directory of inventories is one.
pub(super) fn is_inventory(name: &str) -> bool {
    const NOT: [&str; 12] =
        [".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".cfg", ".retry"];
    !name.starts_with('.')
        && !["host_vars", "group_vars", "vars_plugins"].contains(&name)
        && !NOT.iter().any(|ending| name.ends_with(ending))
}

/// Files of a directory of inventories, in the order in which Ansible reads them.
pub(super) fn inventories(directory: &Utf8Path, depth: usize, out: &mut Vec<Utf8PathBuf>) -> Result<(), BadInventory> {
    let names = entries(directory)?;
    for name in names.iter().filter(|name| is_inventory(name)) {
        let path = directory.join(name);
        match path.is_dir() {
            true if depth < MAX_DEPTH => inventories(&path, depth + 1, out)?,
            true => {}
            false => out.push(path),
        }
    }
    Ok(())
}

/// Reads a file of bounded size.
pub(super) fn bounded(path: &Utf8Path) -> Result<String, BadInventory> {
    use io::Read as _;
    let mut text = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(yaml::MAX_BYTES as u64 + 1).read_to_end(&mut text));
    read.map_err(|e| unreadable(path, &e))?;
    if text.len() > yaml::MAX_BYTES {
        let problem = yaml::YamlError::TooLarge { bytes: text.len() }.into();
        return Err(BadInventory { file: Some(path.to_owned()), line: None, problem });
    }
    String::from_utf8(text).or_else(|e| {
        // Comments of INI may be in any encoding; nothing else may.
        let text = String::from_utf8_lossy(e.as_bytes()).into_owned();
        let bad = literal::lines(&text).position(|line| line.contains('\u{fffd}') && !line.starts_with(['#', ';']));
        match bad {
            None => Ok(text),
            Some(nth) => {
                let problem = Problem::Read("the line is not UTF-8".to_owned());
                Err(BadInventory { file: Some(path.to_owned()), line: Some(nth + 1), problem })
            }
        }
    })
}
