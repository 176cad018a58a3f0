//! The model and the pictures against the outputs of the reference, in a browser on the CPU with SIMD.
#![cfg(target_family = "wasm")]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "../../common/mod.rs"]
mod common;
#[path = "../../image/goldens.rs"]
mod image;
#[path = "../../pictures/mod.rs"]
mod picture_files;
#[path = "../../probe/cases.rs"]
mod probe;

use aim_web::device::Device;
use common::cases::{
    CASES, CPU_TOLERANCE, causal_features_match_the_reference, matches_the_reference,
};
use common::cpu_cases;
use common::int8_cases::{Case, check};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

#[wasm_bindgen_test]
async fn matches() {
    matches_the_reference(CASES, &Device::Cpu, CPU_TOLERANCE).await;
}

#[wasm_bindgen_test]
fn training_is_the_same_everywhere() {
    probe::training_is_the_same_everywhere();
}

#[wasm_bindgen_test]
async fn causal_features_match() {
    causal_features_match_the_reference(&Device::Cpu, CPU_TOLERANCE).await;
}

#[wasm_bindgen_test]
fn products_are_those_of_f64() {
    cpu_cases::products_are_those_of_f64();
}

#[wasm_bindgen_test]
fn a_row_that_is_not_finite_spoils_no_other() {
    cpu_cases::a_row_that_is_not_finite_spoils_no_other();
}

#[wasm_bindgen_test]
fn gelu_is_exact_to_a_millionth() {
    cpu_cases::gelu_is_exact_to_a_millionth();
}

#[wasm_bindgen_test]
fn exponentials_are_exact_to_a_millionth() {
    cpu_cases::exponentials_are_exact_to_a_millionth();
}

#[wasm_bindgen_test]
fn layer_norms_are_those_of_f64() {
    cpu_cases::layer_norms_are_those_of_f64();
}

#[wasm_bindgen_test]
fn attention_is_that_of_f64() {
    cpu_cases::attention_is_that_of_f64();
}

#[wasm_bindgen_test]
fn attention_over_4096_tokens_is_that_of_f64() {
    cpu_cases::attention_over_4096_tokens_is_that_of_f64();
}

#[wasm_bindgen_test]
fn attention_takes_large_scores_and_shows_what_is_not_finite() {
    cpu_cases::attention_takes_large_scores_and_shows_what_is_not_finite();
}

#[wasm_bindgen_test]
fn a_block_is_that_of_f64() {
    cpu_cases::a_block_is_that_of_f64();
}

#[wasm_bindgen_test]
fn the_probe_is_that_of_f64() {
    cpu_cases::the_probe_is_that_of_f64();
}

/// By every kernel that this build and this machine have.
#[wasm_bindgen_test]
fn integer_products_are_those_of_f64() {
    for case in Case::all() {
        check(&case);
    }
}
