//! The end of the program: plugins' threads end, and what is still held of theirs can be dropped.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
mod support;

use std::{fs, time::Duration};

use autoprof_core::{Command, Host, Registry};
use autoprof_loader::{Plugins, Trust, shutdown};
use support::plugin_dir;

/// Threads of plugins that run in this process.
fn plugin_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == "autoprof-plugin").count()
}

#[tokio::test]
async fn what_is_held_of_a_plugin_outlives_its_threads() {
    let mut registry = Registry::default();
    let wanted = ["transport:local", "signaler:marker", "profiler:vmstat"];
    Plugins::scan_only(&[plugin_dir().to_owned()], Trust::Any).load(wanted, &mut registry).unwrap();
    let session = registry.transport("local").unwrap().connect(&Host::local()).await.unwrap();
    // It ends when nobody can write to it any more.
    let process = session.exec(&Command::new(["cat"])).await.unwrap();
    assert!(plugin_threads() > 0);
    shutdown(Duration::from_secs(20));
    assert_eq!(plugin_threads(), 0);
    // The encoder has no threads, and works on.
    assert_eq!(registry.encoder("vmstat").unwrap().profiler().name, "vmstat");
    drop((process, session, registry));
    shutdown(Duration::from_secs(20));
}
