//! A passphrase or a password, for as long as it is needed.
use std::fmt;

use zeroize::Zeroizing;

/// What only a person knows. It is never printed, and its memory is cleared when it is dropped.
///
/// ```
/// use autoprof_core::Secret;
///
/// let secret = Secret::from("open sesame");
/// assert_eq!(secret.reveal(), "open sesame");
/// assert_eq!(format!("{secret:?}"), "Secret(..)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text. A copy of it is the caller's to clear.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The text itself, without a copy, which is the caller's to clear from now on.
    #[must_use]
    pub fn into_string(mut self) -> String {
        std::mem::take(&mut *self.0)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
