//! `autoprof profilers` and `autoprof plugin`: what there is, read from the plugins' notes without running them.
use autoprof_core::{
    Registry,
    args::Args,
    encoder::{Param, ProfilerInfo},
    job::PRESETS,
    protocol::{HostFacts, Tool},
    text::nearest,
};
use autoprof_report::plan::invocation_lines;

use crate::{cli, cli::Global, exit::Failure, print, print_json, wire};

/// Lists profilers, or shows one.
pub fn profilers(global: &Global, asked: &cli::Profilers) -> Result<u8, Failure> {
    let plugins = wire::plugins(global)?;
    let mut infos: Vec<&ProfilerInfo> = plugins.profilers().map(|(info, _)| info).collect();
    infos.sort_by(|a, b| a.name.cmp(&b.name));
    let Some(name) = &asked.name else {
        if asked.json {
            print_json(&infos);
        } else {
            list(&infos);
        }
        return Ok(0);
    };
    let Some(info) = infos.iter().find(|info| info.name == name.as_str()) else {
        let near = nearest(name, infos.iter().map(|i| i.name.as_ref()));
        return Err(Failure::Usage {
            message: format!("unknown profiler {name:?}"),
            hint: Some(near.map_or_else(
                || "`autoprof profilers` lists what there is".into(),
                |near| format!("did you mean {near:?}?"),
            )),
        });
    };
    if asked.json {
        print_json(info);
        return Ok(0);
    }
    show(info);
    let mut registry = Registry::default();
    plugins.load([format!("profiler:{name}").as_str()], &mut registry)?;
    show_commands(&registry, info);
    Ok(0)
}

fn list(infos: &[&ProfilerInfo]) {
    let width = infos.iter().map(|i| i.name.len()).max().unwrap_or(0);
    for info in infos {
        print(&format!("{:width$}  {}\n", info.name, info.summary));
    }
    print("\npresets\n");
    for (name, members) in PRESETS {
        print(&format!("{name:width$}  {}\n", members.join(", ")));
    }
}

fn show(info: &ProfilerInfo) {
    print(&format!("{}: {}\n", info.name, info.summary));
    let needs: Vec<String> = info.tool_probes().map(|p| p.name).collect();
    print(&format!("needs on the host: {}\n", if needs.is_empty() { "nothing".into() } else { needs.join(", ") }));
    if info.params.is_empty() {
        print("takes no parameters\n");
    } else {
        print("parameters, in the order in which values without a name fill them:\n");
        info.params.iter().for_each(|param| print(&param_line(param)));
    }
}

fn param_line(param: &Param) -> String {
    let mut about = param.kind.word().to_owned();
    if !param.range.is_empty() {
        about = format!("{about}, {}", param.range);
    }
    if !param.unit.is_empty() {
        about = format!("{about}, in {}", param.unit);
    }
    if !param.default.is_empty() {
        about = format!("{about}, default {}", param.default);
    }
    format!("  {}  ({about})\n      {}\n", param.name, param.help)
}

/// What would run on a host that has everything.
fn show_commands(registry: &Registry, info: &ProfilerInfo) {
    let tools = info.tool_probes().map(|probe| {
        let tool =
            Tool { path: format!("/usr/bin/{}", probe.name), version: "version 999.0".into(), ..Tool::default() };
        (probe.name, tool)
    });
    let facts = HostFacts {
        arch: "x86_64".into(),
        cpus: 1,
        perf_event_paranoid: Some(-1),
        hardware_counters: true,
        system_wide: true,
        pressure: true,
        debugfs: true,
        tracefs: true,
        kvm: true,
        tools: tools.collect(),
        ..HostFacts::default()
    };
    let encoded = registry.encoder(&info.name).ok().map(|encoder| {
        let args = Args::new().complete(info)?;
        encoder.encode(&args, &facts)
    });
    match encoded {
        Some(Ok(invocation)) => {
            print("with the defaults, on a host where everything works:\n");
            print(&invocation_lines(&invocation));
        }
        Some(Err(_)) | None => print(&format!("for example: {}\n", info.example)),
    }
}

/// One file that is a plugin, or is not.
struct Row {
    name: String,
    provides: String,
    version: String,
    state: String,
    file: String,
}

/// Lists plugins.
pub fn plugins(global: &Global, json: bool) -> Result<u8, Failure> {
    let plugins = wire::plugins(global)?;
    let found = plugins.candidates().iter().map(|c| Row {
        name: c.note.name.clone(),
        provides: c.note.provides.join(","),
        version: c.note.version.clone(),
        state: match &c.shadowed_by {
            Some(by) => format!("shadowed by {by}"),
            None if c.is_locked() => "usable, locked".into(),
            None => "usable".into(),
        },
        file: c.path.to_string(),
    });
    let refused = plugins.rejected().iter().map(|r| Row {
        name: "-".into(),
        provides: "-".into(),
        version: "-".into(),
        state: format!("refused: {}", r.error),
        file: r.path.to_string(),
    });
    let rows: Vec<Row> = found.chain(refused).collect();
    if json {
        let rows = rows.iter().map(|row| {
            serde_json::json!({
                "name": row.name, "provides": row.provides, "version": row.version, "state": row.state, "file": row.file,
            })
        });
        let all: Vec<serde_json::Value> = rows.collect();
        print_json(&all);
        return Ok(0);
    }
    let width = |column: fn(&Row) -> &String| rows.iter().map(|r| column(r).len()).max().unwrap_or(0);
    let (name, provides, version, file) =
        (width(|r| &r.name), width(|r| &r.provides), width(|r| &r.version), width(|r| &r.file));
    for row in &rows {
        let Row { name: n, provides: p, version: v, state, file: f } = row;
        print(&format!("{n:name$}  {p:provides$}  {v:version$}  {f:file$}  {state}\n"));
    }
    if rows.is_empty() {
        print("no plugins; looked in:\n");
        autoprof_loader::search_path(&global.plugin_dir).iter().for_each(|dir| print(&format!("  {dir}\n")));
    }
    Ok(0)
}
