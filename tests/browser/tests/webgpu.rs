//! The model against the outputs of Apple's reference, in a browser on WebGPU, there perhaps on a software
//! adapter.
#![cfg(target_family = "wasm")]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "../../common/mod.rs"]
mod common;

use aim_web::device::Device;
use aim_web::device::gpu::{Adapters, open};
use common::cases::{
    CASES, GPU_TOLERANCE, causal_features_match_the_reference, matches_the_reference,
};
use wasm_bindgen_test::{console_log, wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

#[wasm_bindgen_test]
async fn matches() {
    let gpu = open(Adapters::Any).await.expect("there is an adapter");
    console_log!("adapter: {}", gpu.adapter);
    let device = Device::Gpu(gpu);
    matches_the_reference(CASES, &device, GPU_TOLERANCE).await;
    causal_features_match_the_reference(&device, GPU_TOLERANCE).await;
}
