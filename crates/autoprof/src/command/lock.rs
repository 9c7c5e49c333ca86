//! `autoprof plugin lock`: writes down what the plugins contain, so that nothing else is loaded.
use autoprof_loader::{Lock, LockChange, Plugins};
use camino::Utf8Path;

use crate::{cli::Global, exit::Failure, print, screen, wire};

/// Writes the list, and says how it differs from the one that was there.
pub fn lock(global: &Global, output: Option<&Utf8Path>) -> Result<u8, Failure> {
    let path = match output.or(global.plugins_lock.as_deref()) {
        Some(path) => path.to_owned(),
        None => Lock::default_path().ok_or_else(|| Failure::Usage {
            message: "there is no home directory for plugins.lock".into(),
            hint: Some("name a file with --output".into()),
        })?,
    };
    // Not by the old list: what changed is what is to be written down.
    let plugins = Plugins::scan(&global.plugin_dir, wire::trust(global));
    for refused in plugins.rejected() {
        screen::line(&format!("left out: {}: {}", refused.path, refused.error));
    }
    let lock = Lock::of(&plugins, &path)?;
    let earlier = Lock::read(&path).ok();
    lock.write()?;
    let count = match lock.plugins().len() {
        1 => "1 plugin".to_owned(),
        n => format!("{n} plugins"),
    };
    print(&format!("{path}: {count}\n"));
    if let Some(earlier) = earlier {
        lock.changes_since(&earlier).iter().for_each(|change| print(&line(change)));
    }
    Ok(0)
}

fn line(change: &LockChange) -> String {
    let (what, plugin) = match change {
        LockChange::Added(plugin) => ("added", plugin),
        LockChange::Changed(plugin) => ("changed", plugin),
        LockChange::Removed(plugin) => ("removed", plugin),
    };
    format!("  {what}  {}  {}\n", plugin.name, plugin.file)
}
