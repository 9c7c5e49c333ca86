//! Profiles this machine from a program: plugins linked in, nothing loaded at run time.
//!
//! Usage: `cargo run -- DIRECTORY`, with `AUTOPROF_CLIENT_DIR` naming the directory of client programs.
use std::{error::Error, sync::Arc};

use autoprof_core::{
    Host, Registry,
    conduct::{self, Environment, Plan, Work},
    job::Require,
    manifest::RunSettings,
    profilers::ProfilerSet,
    run::Place,
    store::ClientStore,
    test::Test,
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
        work: Work::Test(Test::new(["sh", "-c", "sleep 2"])),
        windows: None,
        require: Require::All,
        settings: RunSettings { lease_ms: Some(60_000), max_duration_ms: 600_000, ..RunSettings::default() },
    };
    let store = ClientStore::new(vec![clients.into()]);
    let environment = Environment::new(Arc::new(registry), Arc::new(store));

    let outcome = conduct::conduct(plan, environment).await?;
    for (name, record) in &outcome.manifest.hosts["local"].profilers {
        println!("{name}: {} ({} files, {} bytes)", record.state.word(), record.files.len(), record.bytes);
    }
    println!("results: {}", outcome.directory);
    Ok(())
}
