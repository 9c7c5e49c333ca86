//! Containment for plugins that are linked in: the adapters, both ways, without a library between them.
use std::fmt;

use autoprof_core::{
    Registry,
    error::{PluginError, TransportError, TransportErrorKind},
    registry::AlreadyRegistered,
};

use crate::{
    adapt_ffi::Provided,
    adapt_native::registry_to_ffi,
    run::{Executor, guard},
};

/// Registers a plugin that is linked in, so that a panic in it is that call's error, as for one that is loaded.
///
/// Costs what the plugin boundary costs: below a microsecond per call. Its futures use the runtime of whoever polls
/// them.
///
/// # Errors
/// Those of `register`, its panic, or a name that is taken.
pub fn register_contained<E: fmt::Display>(
    register: impl FnOnce(&mut Registry) -> Result<(), E>,
    registry: &mut Registry,
) -> Result<(), TransportError> {
    let mut own = Registry::new(registry.prompter());
    let registered = guard::<_, TransportErrorKind>(|| {
        register(&mut own).map_err(|e| PluginError::new(TransportErrorKind::Config, e.to_string()))
    });
    registered.into_result().map_err(TransportError::from)?;
    let provided = Provided::from_ffi(registry_to_ffi(&own, &Executor::Bare))
        .map_err(|e| TransportError::new(TransportErrorKind::Other, e.to_string()))?;
    let taken = |e: AlreadyRegistered| TransportError::new(TransportErrorKind::Config, e.to_string());
    provided.add_to(registry).map_err(taken)
}
