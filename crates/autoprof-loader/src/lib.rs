//! Finds, checks and loads autoprof's plugins.
//!
//! A scan reads the note of each file and runs nothing; what is needed is loaded later and gives core's traits. One bad
//! file never stops the others, and each is refused by one line that says why. A file is opened once for its load: what
//! is checked, hashed and read there is what is loaded. A plugin is code in this process all the same: the checks are
//! against accidents and against other users, not against the plugin itself.
//!
//! ```no_run
//! use autoprof_core::Registry;
//! use autoprof_loader::{Plugins, Trust};
//!
//! let plugins = Plugins::scan(&[], Trust::Owned);
//! for (info, plugin) in plugins.profilers() {
//!     println!("{}: {} ({})", info.name, info.summary, plugin.path);
//! }
//! let mut registry = Registry::default();
//! plugins.load(["transport:ssh", "signaler:marker", "profiler:vmstat"], &mut registry)?;
//! # Ok::<(), autoprof_loader::LoadError>(())
//! ```

mod elf;
mod error;
mod file;
mod load;
mod lock;
mod plugins;
mod policy;
mod scan;
mod search;

pub use autoprof_abi::note::PluginNote;
pub use autoprof_core::trust::Trust;
pub use elf::read_note;
pub use error::{LoadError, LockError, PluginFileError};
pub use load::{load_into, shutdown};
pub use lock::{Lock, LockChange, LockedPlugin, PLUGINS_LOCK_VARIABLE};
pub use plugins::Plugins;
pub use policy::Policy;
pub use scan::{Candidate, Rejected, Scan, scan};
pub use search::{PLUGIN_DIR_VARIABLE, search_path};
