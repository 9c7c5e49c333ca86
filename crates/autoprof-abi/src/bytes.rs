//! Bytes that are owned by the other side: they cross without a copy, whatever their number.
#![allow(unsafe_code)]

use std::{fmt, slice};

use abi_stable::StableAbi;
use bytes::Bytes;

/// Bytes with their owner's way to release them.
#[repr(C)]
#[derive(StableAbi)]
pub struct FfiBytes {
    ptr: *const u8,
    len: usize,
    owner: *mut (),
    release: unsafe extern "C" fn(*mut ()),
}

// SAFETY: the owner is a boxed `Bytes`, which is Send and Sync, and the view is read-only.
unsafe impl Send for FfiBytes {}
// SAFETY: as above.
unsafe impl Sync for FfiBytes {}

unsafe extern "C" fn release_bytes(owner: *mut ()) {
    // SAFETY: `owner` came from `Box::into_raw` of a `Box<Bytes>` in `From<Bytes>` of this same library.
    drop(unsafe { Box::from_raw(owner.cast::<Bytes>()) });
}

impl From<Bytes> for FfiBytes {
    fn from(data: Bytes) -> Self {
        let (ptr, len) = (data.as_ptr(), data.len());
        Self { ptr, len, owner: Box::into_raw(Box::new(data)).cast(), release: release_bytes }
    }
}

impl AsRef<[u8]> for FfiBytes {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: both describe the buffer that `owner` keeps alive and where it is.
        unsafe { slice::from_raw_parts(self.ptr, self.len) }
    }
}

impl From<FfiBytes> for Bytes {
    fn from(data: FfiBytes) -> Self {
        Self::from_owner(data)
    }
}

impl Drop for FfiBytes {
    fn drop(&mut self) {
        // SAFETY: called once, with the pair that `From<Bytes>` stored.
        unsafe { (self.release)(self.owner) }
    }
}

impl fmt::Debug for FfiBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FfiBytes").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_cross_without_a_copy() {
        let data = Bytes::from(vec![7u8; 1000]).slice(10..20);
        let at = data.as_ptr();
        let back = Bytes::from(FfiBytes::from(data));
        assert_eq!((back.as_ptr(), back.as_ref()), (at, [7u8; 10].as_slice()));
        assert!(Bytes::from(FfiBytes::from(Bytes::new())).is_empty());
    }
}
