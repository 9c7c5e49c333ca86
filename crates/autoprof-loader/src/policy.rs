//! What is asked of a file before anything of it runs.
use std::sync::Arc;

use crate::{Lock, Trust};

/// What a file has to pass to be loaded.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    pub(crate) trust: Trust,
    pub(crate) lock: Option<Arc<Lock>>,
}

impl Policy {
    /// What is trusted, and is listed where there is a list.
    #[must_use]
    pub fn new(trust: Trust, lock: Option<Lock>) -> Self {
        Self { trust, lock: lock.map(Arc::new) }
    }
}

impl From<Trust> for Policy {
    fn from(trust: Trust) -> Self {
        Self::new(trust, None)
    }
}
