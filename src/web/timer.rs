//! Waiting, in a page, a worker or an edge runtime: all have `setTimeout`.

use std::time::Duration;

use js_sys::{Function, Promise, Reflect};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;

/// Ends after `duration`. If it is dropped before, its timer is cleared: Node stays for every timer that is set.
pub(super) async fn sleep(duration: Duration) {
    let milliseconds = u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
    let mut timer = Timer::default();
    let promise = Promise::new(&mut |resolve, _| {
        match call("setTimeout", &resolve, &milliseconds.into()) {
            Some(started) => timer.started = Some((started, resolve)),
            // No timers here: do not wait rather than wait for ever.
            None => {
                let _ = resolve.call0(&JsValue::UNDEFINED);
            }
        }
    });
    let _ = JsFuture::from(promise).await;
    drop(timer);
}

#[derive(Default)]
struct Timer {
    /// What `setTimeout` gave, a number, or an object in Node; and what it calls.
    started: Option<(JsValue, Function)>,
}

impl Drop for Timer {
    fn drop(&mut self) {
        let Some((id, resolve)) = self.started.take() else {
            return;
        };
        call("clearTimeout", &id, &JsValue::UNDEFINED);
        // A promise that is never settled keeps what waits for it: a few hundred bytes for each piece of a download.
        let _ = resolve.call0(&JsValue::UNDEFINED);
    }
}

/// Calls a global function, if it is there.
fn call(name: &str, first: &JsValue, second: &JsValue) -> Option<JsValue> {
    let global = js_sys::global();
    let function: Function = Reflect::get(&global, &name.into()).ok()?.dyn_into().ok()?;
    function.call2(&global, first, second).ok()
}

/// Milliseconds since some moment in the past.
pub(super) fn now() -> f64 {
    let performance = Reflect::get(&js_sys::global(), &"performance".into()).ok();
    performance
        .filter(|performance| !performance.is_undefined())
        .and_then(|performance| {
            let now = Reflect::get(&performance, &"now".into()).ok()?;
            now.dyn_into::<Function>()
                .ok()?
                .call0(&performance)
                .ok()?
                .as_f64()
        })
        .unwrap_or_else(js_sys::Date::now)
}
