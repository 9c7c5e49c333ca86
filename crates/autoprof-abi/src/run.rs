//! Running one side's code for the other: panics become errors, futures are polled with their own runtime entered.
#![allow(unsafe_code)]

use std::{
    any::Any,
    cell::RefCell,
    future::Future,
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use abi_stable::std_types::RResult;
use async_ffi::{BorrowingFfiFuture, FutureExt as _};
use autoprof_core::error::{ErrorKind, PluginError};
use tokio::runtime::Handle;

use crate::raw::FfiResult;

thread_local! {
    /// Where a panic hook leaves "message at file:line" for whoever catches the panic.
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps the text of a panic for the error that it becomes on this thread.
pub fn note_panic(text: String) {
    LAST_PANIC.with(|last| *last.borrow_mut() = Some(text));
}

fn panic_error<K: ErrorKind>(payload: Box<dyn Any + Send>) -> PluginError<K> {
    let text = LAST_PANIC.with(|last| last.borrow_mut().take()).unwrap_or_else(|| {
        let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
        text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without text".to_owned())
    });
    // A payload's own destructor may panic (rust-lang/rust#86027): it is leaked.
    std::mem::forget(payload);
    PluginError::new(K::PANIC, format!("the plugin panicked: {text}"))
}

/// Runs `f` so that nothing unwinds out of it: abi_stable would end the process.
pub fn guard<T, K: ErrorKind>(f: impl FnOnce() -> Result<T, PluginError<K>>) -> FfiResult<T> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(value)) => RResult::ROk(value),
        Ok(Err(e)) => RResult::RErr(e.into()),
        Err(payload) => RResult::RErr(panic_error::<K>(payload).into()),
    }
}

/// How a side's futures are driven when the other side polls them.
///
/// Each library has its own copy of tokio, which does not see the runtime of the thread that it is called on.
#[derive(Debug, Clone)]
pub enum Executor {
    /// As they are: there is no runtime, or none is needed.
    Bare,
    /// In the caller's thread with this runtime entered, so that timers, sockets and `spawn` work.
    Entered(Handle),
}

impl Executor {
    /// With the runtime that the caller is in, if it is in one.
    #[must_use]
    pub fn current() -> Self {
        Handle::try_current().map_or(Self::Bare, Self::Entered)
    }

    /// Wraps a future for the boundary. Dropping what comes out drops `future`, with the runtime entered.
    pub(crate) fn wrap<'a, T, K>(
        &self,
        future: impl Future<Output = Result<T, PluginError<K>>> + Send + 'a,
    ) -> BorrowingFfiFuture<'a, FfiResult<T>>
    where
        T: Send + 'a,
        K: ErrorKind,
    {
        let handle = match self {
            Self::Bare => None,
            Self::Entered(handle) => Some(handle.clone()),
        };
        Contained { future: Some(future), handle }.into_ffi()
    }
}

/// A future whose panics are errors and whose runtime is entered whenever it runs.
struct Contained<F> {
    future: Option<F>,
    handle: Option<Handle>,
}

impl<F, T, K> Future for Contained<F>
where
    F: Future<Output = Result<T, PluginError<K>>>,
    K: ErrorKind,
{
    type Output = FfiResult<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: `future` is structurally pinned: it is never moved out, and dropped where it is.
        let this = unsafe { self.get_unchecked_mut() };
        let _entered = this.handle.as_ref().map(Handle::enter);
        let Some(future) = this.future.as_mut() else {
            let over = PluginError::new(K::OTHER, "polled after its end");
            return Poll::Ready(RResult::RErr(over.into()));
        };
        // SAFETY: as above; `this` is pinned.
        let future = unsafe { Pin::new_unchecked(future) };
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(value))) => Poll::Ready(RResult::ROk(value)),
            Ok(Poll::Ready(Err(e))) => Poll::Ready(RResult::RErr(e.into())),
            Err(payload) => Poll::Ready(RResult::RErr(panic_error::<K>(payload).into())),
        }
    }
}

impl<F> Drop for Contained<F> {
    fn drop(&mut self) {
        let _entered = self.handle.as_ref().map(Handle::enter);
        // A panic in a destructor must not cross either; there is nobody to tell but the panic hook.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.future = None)) {
            std::mem::forget(payload);
        }
    }
}

/// A value of this side that the other side drops: with its runtime entered and its panics contained.
pub(crate) struct Kept<T> {
    pub(crate) value: ManuallyDrop<T>,
    pub(crate) executor: Executor,
}

impl<T> Kept<T> {
    pub(crate) fn new(value: T, executor: Executor) -> Self {
        Self { value: ManuallyDrop::new(value), executor }
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        let _entered = match &self.executor {
            Executor::Bare => None,
            Executor::Entered(handle) => Some(handle.enter()),
        };
        // SAFETY: dropped here alone, and not used afterwards.
        let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { ManuallyDrop::drop(&mut self.value) }));
        if let Err(payload) = dropped {
            std::mem::forget(payload);
        }
    }
}
