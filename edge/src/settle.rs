//! Runs the work of a request: to its end at once if nothing has to be waited for, else on from wherever its I/O
//! ends.
//!
//! `wasm-bindgen-futures` runs all futures of an isolate from one queue, one turn of the runtime after they are
//! woken. That costs two turns for each answer out of KV, and runs one request's work in another's turn.

use futures_util::{FutureExt, future::LocalBoxFuture};
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use worker::js_sys::{Function, Promise};
use worker::send::SendWrapper;
use worker::wasm_bindgen::JsValue;

/// What a request comes to.
pub(crate) type Outcome = Result<JsValue, JsValue>;

/// Does the work; what has to be waited for becomes a promise.
///
/// # Errors
/// What the work ends with, if it ends at once.
pub(crate) fn settle(mut work: LocalBoxFuture<'static, Outcome>) -> Outcome {
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

/// Work that has not ended. Wakers must be able to change threads, of which a Worker has but one.
struct Task(SendWrapper<State>);

struct State {
    /// None when it has ended. Borrowed while it runs.
    work: RefCell<Option<LocalBoxFuture<'static, Outcome>>>,
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
    /// Goes on with the work until it has to wait again.
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
                    // A promise's own functions do not fail.
                    debug_assert!(settled.is_ok());
                }
                Poll::Pending if woken.get() => {}
                Poll::Pending => return,
            }
        }
    }
}
