//! The product with a quantised matrix, by every kernel that this machine has: in turns with one in f32 of the same shape
//! (the gemm crate, as candle calls it) and with the register tile that limits it; and the speed of quantisation.
//!
//! `cargo bench --features threads --bench quant_kernels`, with `RAYON_NUM_THREADS=1` for gemm on one core: the kernels
//! are on one. Times are medians.

#![allow(clippy::unwrap_used)]

#[path = "timing/register_tile.rs"]
mod register_tile;
mod timing;

use std::hint::black_box;

use aim_web::quant::int8::{Activations, IntMatrix, Kernel, Write};
use aim_web::quant::{Method, QuantMatrix, Quantizer, Scheme};
use register_tile::register_tile;
use timing::{in_turns, median, seconds};

fn values(n: usize, mut seed: u64) -> Vec<f32> {
    let mut uniform = || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f32 / (1 << 24) as f32
    };
    (0..n)
        .map(|_| uniform() + uniform() + uniform() + uniform() - 2.0)
        .collect()
}

fn quantize(w: &[f32], shape: [usize; 2], scheme: Scheme, method: Method) -> QuantMatrix {
    let mut quantizer = Quantizer::new(shape[0], shape[1], scheme, method).unwrap();
    quantizer.push(w).unwrap();
    quantizer.finish().unwrap()
}

#[allow(unsafe_code)]
fn gemm_f32(x: &[f32], w: &[f32], y: &mut [f32], [n, d_output, d_input]: [usize; 3]) {
    assert!(x.len() == n * d_input && w.len() == d_output * d_input && y.len() == n * d_output);
    let threads = rayon::current_num_threads();
    let parallelism = if threads > 1 {
        gemm::Parallelism::Rayon(threads)
    } else {
        gemm::Parallelism::None
    };
    let [o, i] = [d_output, d_input].map(|d| d as isize);
    // Safety: the lengths are those of the shapes and strides.
    unsafe {
        gemm::gemm(
            n,
            d_output,
            d_input,
            y.as_mut_ptr(),
            1,
            o,
            false,
            x.as_ptr(),
            1,
            i,
            w.as_ptr(),
            i,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// How often each is timed.
const ROUNDS: usize = 40;

/// Times one shape by one kernel, and writes a line.
fn product([n, d_output, d_input]: [usize; 3], scheme: Scheme, kernel: Kernel) {
    let w = values(d_output * d_input, 1);
    let packed = quantize(&w, [d_output, d_input], scheme, Method::Nearest);
    let packed = IntMatrix::for_kernel(packed, kernel).unwrap();
    let x = values(n * d_input, 2);
    let [mut y, mut y_float] = [0; 2].map(|_| vec![0.0; n * d_output]);
    let mut activations = Activations::new();
    activations.prepare(n, &packed).unwrap();
    let mut round = Activations::new();
    round.prepare(n, &packed).unwrap();
    for (row, x) in x.chunks(d_input).enumerate() {
        activations.rows_mut().quantize(row, x).unwrap();
    }
    let products = (2 * n * d_output * d_input) as f64;
    // Long enough for the clock.
    let repeat = (2e7 / products).ceil() as usize;
    let often = |run: &mut dyn FnMut()| (0..repeat).for_each(|_| run());
    let (tile, mut run_tile) = register_tile(kernel, scheme.bits()).unwrap_or((f64::NAN, || {}));
    let [float, int, rounding, limit] = in_turns(
        ROUNDS,
        [
            &mut || {
                often(&mut || gemm_f32(&x, &w, black_box(&mut y_float), [n, d_output, d_input]));
            },
            &mut || {
                often(&mut || {
                    let y = black_box(&mut y);
                    packed
                        .product(activations.rows(), 0..d_output, y, d_output, Write::Over)
                        .unwrap();
                });
            },
            &mut || {
                often(&mut || {
                    for (row, x) in x.chunks(d_input).enumerate() {
                        black_box(&mut round).rows_mut().quantize(row, x).unwrap();
                    }
                });
            },
            &mut run_tile,
        ],
    );
    let speed = 1e-9 * products * repeat as f64;
    let limit = 1e-9 * tile / limit;
    println!(
        "{n:>5} {d_output:>5} {d_input:>5} {:>4} {:>15}  {:>7.1} {:>6.2} {:>9.3} {:>8.3}  {:.1}",
        scheme.bits().get(),
        format!("{kernel:?}"),
        speed / int,
        speed / int / limit,
        rounding / int,
        int / float,
        speed / float,
    );
}

fn main() {
    println!("gemm's threads: {}", rayon::current_num_threads());
    println!(
        "{:>5} {:>5} {:>5} {:>4} {:>15}  {:>7} {:>6} {:>9} {:>8}  f32 GFLOP/s",
        "n", "out", "in", "bits", "kernel", "GOP/s", "share", "rounding", "time/f32"
    );
    for [d_output, d_input] in [
        [576, 192],
        [768, 192],
        [1152, 384],
        [1536, 384],
        [384, 1536],
        [1536, 1536],
    ] {
        for n in [1, 256] {
            for scheme in [Scheme::Q8, Scheme::Q4] {
                let kernels = Kernel::ALL.into_iter();
                for kernel in kernels.filter(|kernel| kernel.is_available(scheme.bits())) {
                    product([n, d_output, d_input], scheme, kernel);
                }
            }
        }
    }
    let shape = [256, 1536];
    let w = values(shape[0] * shape[1], 3);
    for method in [Method::Nearest, Method::Search] {
        for scheme in [Scheme::Q4, Scheme::Q8] {
            let run = |_| seconds(|| drop(black_box(quantize(&w, shape, scheme, method))));
            let speed = 4e-6 * w.len() as f64 / median((0..ROUNDS).map(run).collect());
            println!(
                "quantize {method:?} to {} bits: {speed:.0} MB/s of f32",
                scheme.bits().get()
            );
        }
    }
}
