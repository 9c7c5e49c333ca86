//! Profiles this machine from a program: plugins linked in, nothing loaded at run time.
//!
//! Usage: `cargo run -- DIRECTORY`, with `AUTOPROF_CLIENT_DIR` naming the directory of client programs.
use std::{error::Error, sync::Arc};

use autoprof_core::{
    Host, Registry,
    conduct::{self, Environment, Interrupts, Plan, Work},
    job::{Require, Timeouts},
    manifest::RunSettings,
    profilers::ProfilerSet,
    protocol::DEFAULT_TMPDIR,
    run::Place,
    store::ClientStore,
    test::{Passthrough, Test},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("usage: autoprof-library-example DIRECTORY")?;
    let clients = std::env::var("AUTOPROF_CLIENT_DIR")?;

    let mut registry = Registry::default();
    autoprof_transport_local::register(&mut registry)?;
    autoprof_signal_marker::register(&mut registry)?;
    autoprof_profiler_proc::register(&mut registry)?;
    autoprof_profiler_vmstat::register(&mut registry)?;

    // Wrong names and arguments are errors here, before any host is touched.
    let mut profilers = ProfilerSet::new();
    profilers.request(&registry, &["proc:0.5".parse()?, "vmstat".parse()?])?;

    let plan = Plan {
        name: Some("example".into()),
        place: Place::At(directory.into()),
        hosts: vec![Host::local()],
        profilers,
        work: Work::Test(Test {
            argv: ["sh", "-c", "sleep 2"].map(String::from).to_vec(),
            directory: None,
            env: Default::default(),
            timeout: None,
        }),
        require: Require::All,
        settings: RunSettings {
            signaler: "marker".into(),
            tmpdir: DEFAULT_TMPDIR.into(),
            keep: false,
            forks: 8,
            lease_ms: Some(60_000),
            max_duration_ms: 600_000,
            timeouts: Timeouts::default(),
        },
    };
    let environment = Environment {
        registry: Arc::new(registry),
        store: Arc::new(ClientStore::new(vec![clients.into()])),
        observers: Vec::new(),
        interrupts: Interrupts::never(),
        output: Arc::new(Passthrough),
        live: false,
    };

    let outcome = conduct::conduct(plan, environment).await?;
    for (name, record) in &outcome.manifest.hosts["local"].profilers {
        println!("{name}: {} ({} files, {} bytes)", record.state.word(), record.files.len(), record.bytes);
    }
    println!("results: {}", outcome.directory);
    Ok(())
}
