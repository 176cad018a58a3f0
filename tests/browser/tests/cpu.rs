//! The model and the pictures against the outputs of the reference, in a browser on the CPU with SIMD.
#![cfg(target_family = "wasm")]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "../../common/mod.rs"]
mod common;
#[path = "../../image/goldens.rs"]
mod image;
#[path = "../../pictures/mod.rs"]
mod picture_files;

use aim_web::device::Device;
use common::cases::{
    CASES, CPU_TOLERANCE, causal_features_match_the_reference, matches_the_reference,
};
use common::int8_cases::{Case, check};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

#[wasm_bindgen_test]
async fn matches() {
    matches_the_reference(CASES, &Device::Cpu, CPU_TOLERANCE).await;
}

#[wasm_bindgen_test]
async fn causal_features_match() {
    causal_features_match_the_reference(&Device::Cpu, CPU_TOLERANCE).await;
}

/// By every kernel that this build and this machine have.
#[wasm_bindgen_test]
fn integer_products_are_those_of_f64() {
    for case in Case::all() {
        check(&case);
    }
}
