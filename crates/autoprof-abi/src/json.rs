//! Data on its way across the boundary: JSON text of core's own types.
//!
//! A reader ignores fields that it does not know and fills in those that are absent, where the type says so: that is how
//! an older host and a newer plugin understand each other.
use autoprof_core::error::{ErrorKind, PluginError};
use serde::{Serialize, de::DeserializeOwned};

/// Writes a value; `what` names it in the error.
pub(crate) fn to<T: Serialize, K: ErrorKind>(what: &str, value: &T) -> Result<String, PluginError<K>> {
    let failed = |e| PluginError::caused(K::OTHER, format!("{what} cannot cross the plugin boundary"), &e);
    serde_json::to_string(value).map_err(failed)
}

/// Reads a value; `what` names it in the error.
pub(crate) fn from<T: DeserializeOwned, K: ErrorKind>(what: &str, text: &str) -> Result<T, PluginError<K>> {
    let failed = |e| {
        let message = format!("{what} from the other side of the plugin boundary cannot be read");
        PluginError::caused(K::OTHER, message, &e)
    };
    serde_json::from_str(text).map_err(failed)
}
