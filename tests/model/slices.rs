//! The CPU's operations on slices against f64.

use crate::common::cpu_cases;

#[test]
fn products_are_those_of_f64() {
    cpu_cases::products_are_those_of_f64();
}

#[test]
fn a_row_that_is_not_finite_spoils_no_other() {
    cpu_cases::a_row_that_is_not_finite_spoils_no_other();
}

#[test]
fn gelu_is_exact_to_a_millionth() {
    cpu_cases::gelu_is_exact_to_a_millionth();
}

#[test]
fn exponentials_are_exact_to_a_millionth() {
    cpu_cases::exponentials_are_exact_to_a_millionth();
}

#[test]
fn layer_norms_are_those_of_f64() {
    cpu_cases::layer_norms_are_those_of_f64();
}

#[test]
fn attention_is_that_of_f64() {
    cpu_cases::attention_is_that_of_f64();
}

#[test]
fn attention_over_4096_tokens_is_that_of_f64() {
    cpu_cases::attention_over_4096_tokens_is_that_of_f64();
}

#[test]
fn attention_takes_large_scores_and_shows_what_is_not_finite() {
    cpu_cases::attention_takes_large_scores_and_shows_what_is_not_finite();
}

#[test]
fn a_block_is_that_of_f64() {
    cpu_cases::a_block_is_that_of_f64();
}

#[test]
fn the_probe_is_that_of_f64() {
    cpu_cases::the_probe_is_that_of_f64();
}

#[test]
fn patches_are_cut_row_by_row() {
    cpu_cases::patches_are_cut_row_by_row();
}
