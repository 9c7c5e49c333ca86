//! What `export_plugin!` expands to, and the plugin's side of its start.
use std::{
    fmt,
    num::NonZero,
    panic,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use autoprof_abi::{Executor, FfiHostObj, FfiRegistry, FfiResult, HostFromFfi, guard, note_panic, registry_to_ffi};
use autoprof_core::{
    Prompter, Registry,
    error::{TransportError, TransportErrorKind},
};
use tokio::runtime::{Builder, Runtime};

use crate::forward;

/// Threads of a plugin's runtime: encryption for many hosts takes more than one.
const MAX_WORKERS: usize = 4;

/// This library's own runtime, once something needs it.
static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

/// Called by the host, once per registry, through the exported root.
#[doc(hidden)]
pub fn init<E: fmt::Display>(
    host: FfiHostObj,
    name: &'static str,
    register: fn(&mut Registry) -> Result<(), E>,
) -> FfiResult<FfiRegistry> {
    guard::<_, TransportErrorKind>(|| {
        let host = Arc::new(HostFromFfi::new(host));
        forward::to_host(Arc::clone(&host), name);
        report_panics(name);
        let mut registry = Registry::new(Arc::clone(&host) as Arc<dyn Prompter>);
        register(&mut registry).map_err(|e| TransportError::new(TransportErrorKind::Config, e.to_string()))?;
        let needs_runtime = registry.transports().next().is_some() || registry.signalers().next().is_some();
        let executor = if needs_runtime { start_runtime()? } else { Executor::Bare };
        Ok(registry_to_ffi(&registry, &executor))
    })
}

/// Called by the host at its end, through the exported root.
#[doc(hidden)]
pub fn shutdown(timeout_ms: u32) {
    let stopped = guard::<_, TransportErrorKind>(|| {
        let runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            runtime.shutdown_timeout(Duration::from_millis(timeout_ms.into()));
        }
        Ok(())
    });
    drop(stopped);
}

/// The runtime, started if need be: a program may use a plugin for several registries.
fn start_runtime() -> Result<Executor, TransportError> {
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = runtime.as_ref() {
        return Ok(Executor::Entered(running.handle().clone()));
    }
    let workers = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_WORKERS);
    let started =
        Builder::new_multi_thread().worker_threads(workers).thread_name("autoprof-plugin").enable_all().build();
    let failed = |e| TransportError::caused(TransportErrorKind::Other, "its threads cannot be started", &e);
    let started = runtime.insert(started.map_err(failed)?);
    Ok(Executor::Entered(started.handle().clone()))
}

/// This library has its own copy of std, hence its own panic hook: it logs, and keeps the text for the error.
fn report_panics(name: &'static str) {
    panic::set_hook(Box::new(move |info| {
        let at = info.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
        let text = format!("{}{at}", info.payload_as_str().unwrap_or("a panic without text"));
        tracing::debug!(target: "panic", "{name}: {text}");
        note_panic(text);
    }));
}

/// Makes a plugin of a crate.
///
/// ```ignore
/// export_plugin!(register, provides = ["transport:ssh"]);      // fn register(&mut Registry) -> Result<(), impl Display>
/// export_plugin!(register, profilers = [IOSTAT, MPSTAT]);      // constants of ProfilerInfo
/// export_plugin!(register, provides = ["signaler:x"], profilers = [X]);
/// export_plugin!(profiler: MyType);                            // MyType: Profiler; makes `pub fn register` too
/// ```
///
/// What is named here is in the plugin's note and has to be what `register` adds: a difference is an error when the
/// plugin is loaded.
#[macro_export]
macro_rules! export_plugin {
    (profiler: $profiler:ty) => {
        /// Adds the profiler, for programs that this plugin is linked into.
        ///
        /// # Errors
        /// When there is a profiler of its name already.
        pub fn register(
            registry: &mut $crate::core::Registry,
        ) -> ::core::result::Result<(), $crate::core::registry::AlreadyRegistered> {
            $crate::register_profiler::<$profiler>(registry)
        }
        $crate::export_plugin!(register, profilers = [<$profiler as $crate::Profiler>::INFO]);
    };
    ($register:path $(, provides = [$($provides:literal),* $(,)?])? $(, profilers = [$($info:expr),* $(,)?])? $(,)?) => {
        const _: () = {
            use $crate::__private::abi::{self, header, note};

            const PLUGIN: note::Plugin<'static> = note::Plugin {
                name: ::core::env!("CARGO_PKG_NAME"),
                version: ::core::env!("CARGO_PKG_VERSION"),
                provides: &[$($($provides),*)?],
                profilers: &[$($(&$info),*)?],
            };
            #[used]
            #[unsafe(link_section = ".note.autoprof")]
            static NOTE: note::Note<{ PLUGIN.size() }> = note::Note::new(&PLUGIN);

            extern "C" fn init(host: abi::FfiHostObj) -> abi::FfiResult<abi::FfiRegistry> {
                $crate::__private::init(host, PLUGIN.name, $register)
            }
            extern "C" fn shutdown(timeout_ms: u32) {
                $crate::__private::shutdown(timeout_ms);
            }
            fn root() -> abi::PluginRoot_Ref {
                header::root(init, shutdown)
            }
            extern "C" fn load() -> header::Constructed {
                header::constructed(root)
            }
            // One name per plugin, so that several can be linked into one program.
            #[unsafe(export_name = ::core::concat!("autoprof_plugin_root_", ::core::env!("CARGO_PKG_NAME")))]
            static HEADER: header::Header = header::header(load);
        };
    };
}
