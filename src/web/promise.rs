//! Promises that settle even if Rust panics.
//!
//! A panic in wasm is a trap: the future that was running never wakes again, and its promise would
//! stay open for ever. So every promise is known here, and the panic hook rejects them all. After a
//! panic the memory of the instance can't be trusted; it refuses every later call.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::panic::PanicHookInfo;
use std::sync::Once;

use js_sys::{Function, Promise};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::spawn_local;

use super::error::to_js;
use crate::error::{Error, ErrorKind};

thread_local! {
    static PENDING: RefCell<HashMap<u32, Function>> = RefCell::default();
    static NEXT: Cell<u32> = const { Cell::new(0) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a future and gives JavaScript a promise of its result.
pub(super) fn promise<F>(future: F) -> Promise
where
    F: Future<Output = Result<JsValue, JsValue>> + 'static,
{
    let ready = ready();
    let mut settle = None;
    let promise = Promise::new(&mut |resolve, reject| settle = Some((resolve, reject)));
    let Some((resolve, reject)) = settle else {
        return promise; // `Promise` calls its executor at once.
    };
    if let Err(error) = ready {
        let _ = reject.call1(&JsValue::UNDEFINED, &error);
        return promise;
    }
    let id = NEXT.get();
    NEXT.set(id.wrapping_add(1));
    PENDING.with_borrow_mut(|pending| pending.insert(id, reject.clone()));
    spawn_local(async move {
        let result = future.await;
        PENDING.with_borrow_mut(|pending| pending.remove(&id));
        let _ = match result {
            Ok(value) => resolve.call1(&JsValue::UNDEFINED, &value),
            Err(error) => reject.call1(&JsValue::UNDEFINED, &error),
        };
    });
    promise
}

/// Makes panics known to their callers; after one, the error of every later call.
pub(super) fn ready() -> Result<(), JsValue> {
    install_hook();
    PANIC.with_borrow(|message| message.as_deref().map(error_of_panic).map_or(Ok(()), Err))
}

fn error_of_panic(message: &str) -> JsValue {
    to_js(&Error::new(
        ErrorKind::DeviceLost,
        format!("a defect stopped this classifier, make a new one: {message}"),
    ))
}

fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
            console_error_panic_hook::hook(info);
            let message = info.to_string();
            let error = error_of_panic(&message);
            PANIC.with(|panic| {
                if let Ok(mut panic) = panic.try_borrow_mut() {
                    *panic = Some(message);
                }
            });
            let pending = PENDING.with(|pending| match pending.try_borrow_mut() {
                Ok(mut pending) => std::mem::take(&mut *pending),
                Err(_) => HashMap::new(),
            });
            for reject in pending.into_values() {
                let _ = reject.call1(&JsValue::UNDEFINED, &error);
            }
        }));
    });
}
