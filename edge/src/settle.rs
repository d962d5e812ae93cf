//! Runs the future of a request. Polls it once; if it is pending, resumes it when its I/O completes.
//!
//! `wasm-bindgen-futures` has one queue for all futures of an isolate, and runs them one turn of the event loop after
//! they are woken. That costs two turns for each answer from KV, and runs the work of one request in another's turn.

use futures_util::{FutureExt, future::LocalBoxFuture};
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use worker::js_sys::{Function, Promise};
use worker::send::SendWrapper;
use worker::wasm_bindgen::JsValue;

/// The result of a request's work.
pub(crate) type Settled = Result<JsValue, JsValue>;

/// Runs the work. Returns a promise if it does not end at once.
///
/// # Errors
/// The error of the work, if it ends at once.
pub(crate) fn settle(mut work: LocalBoxFuture<'static, Settled>) -> Settled {
    if let Some(outcome) = work.as_mut().now_or_never() {
        return outcome;
    }
    let mut work = Some(work);
    let promise = Promise::new(&mut |resolve, reject| {
        let work = RefCell::new(work.take());
        Arc::new(Task(SendWrapper::new(State { work, woken: Cell::new(false), resolve, reject }))).run();
    });
    Ok(promise.into())
}

/// Work that has not ended. A waker must be `Send`, but a Worker has only one thread.
struct Task(SendWrapper<State>);

struct State {
    /// None if the work has ended. Borrowed while it runs.
    work: RefCell<Option<LocalBoxFuture<'static, Settled>>>,
    /// Whether it was woken while it ran.
    woken: Cell<bool>,
    resolve: Function,
    reject: Function,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.run();
    }
}

impl Task {
    /// Continues the work until it has to wait again.
    fn run(self: &Arc<Self>) {
        let State { work, woken, resolve, reject } = &*self.0;
        let Ok(mut work) = work.try_borrow_mut() else {
            woken.set(true);
            return;
        };
        let waker = Waker::from(self.clone());
        let mut context = Context::from_waker(&waker);
        while let Some(running) = work.as_mut() {
            woken.set(false);
            match running.as_mut().poll(&mut context) {
                Poll::Ready(outcome) => {
                    *work = None;
                    let settled = match outcome {
                        Ok(value) => resolve.call1(&JsValue::UNDEFINED, &value),
                        Err(error) => reject.call1(&JsValue::UNDEFINED, &error),
                    };
                    // The resolve and reject functions of a promise do not fail.
                    debug_assert!(settled.is_ok());
                }
                Poll::Pending if woken.get() => {}
                Poll::Pending => return,
            }
        }
    }
}
