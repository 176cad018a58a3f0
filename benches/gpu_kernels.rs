//! The product with a packed matrix on a GPU against burn's in f32, in turns.
//!
//! `cargo bench --bench gpu_kernels`. Times are medians, each with the read that ends a product. A software driver
//! will do; then the ratios are those of the CPU that plays the GPU.

#![allow(clippy::unwrap_used)]

mod timing;

use aim_web::device::backend::{AimBackend, PackedMatrix};
use aim_web::device::gpu::{Adapters, Gpu, open};
use aim_web::device::host::read;
use aim_web::quant::{Halver, Method, Quantizer, Scheme};
use burn::tensor::{Tensor, TensorData};
use pollster::block_on;
use timing::in_turns;

fn values(n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| (i * 7919 % 1009) as f32 / 504.0 - 1.0)
        .collect()
}

/// How often each is timed.
const ROUNDS: usize = 7;

fn run(product: impl Fn() -> Tensor<Gpu, 2>) {
    block_on(read(product())).unwrap();
}

fn main() {
    let gpu = block_on(open(Adapters::Any)).unwrap();
    println!("{}", gpu.adapter);
    println!(
        "{:>5} {:>5} {:>5}  {:>8} {:>8} {:>8}  f32 GFLOP/s",
        "n", "out", "in", "f16/f32", "q8/f32", "q4/f32"
    );
    for [d_output, d_input] in [[576, 192], [1152, 384], [384, 1536], [1536, 1536]] {
        let w = values(d_output * d_input);
        let mut halver = Halver::new(d_output, d_input).unwrap();
        halver.push(&w).unwrap();
        let mut packed = vec![PackedMatrix::Half(halver.finish().unwrap())];
        for scheme in [Scheme::Q8, Scheme::Q4] {
            let mut quantizer = Quantizer::new(d_output, d_input, scheme, Method::Nearest).unwrap();
            quantizer.push(&w).unwrap();
            packed.push(PackedMatrix::Quantised(quantizer.finish().unwrap()));
        }
        let packed: Vec<_> = packed
            .into_iter()
            .map(|matrix| Gpu::pack(matrix, &gpu.device).unwrap())
            .collect();
        let float = TensorData::new(w, [d_input, d_output]);
        let float = Tensor::<Gpu, 2>::from_data(float, &gpu.device);
        for n in [1, 256] {
            let x = TensorData::new(values(n * d_input), [n, d_input]);
            let x = Tensor::<Gpu, 2>::from_data(x, &gpu.device);
            let [half, q8, q4] = [0, 1, 2].map(|i| {
                let (x, packed) = (&x, &packed);
                move || run(|| Gpu::product(x.clone(), &packed[i]))
            });
            let float = || run(|| x.clone().matmul(float.clone()));
            // The first of each compiles its kernel.
            in_turns(1, [&mut &float, &mut &half, &mut &q8, &mut &q4]);
            let [f32, half, q8, q4] =
                in_turns(ROUNDS, [&mut &float, &mut &half, &mut &q8, &mut &q4]);
            let speed = 2e-9 * (n * d_output * d_input) as f64 / f32;
            let [half, q8, q4] = [half, q8, q4].map(|time| time / f32);
            println!(
                "{n:>5} {d_output:>5} {d_input:>5}  {half:>8.3} {q8:>8.3} {q4:>8.3}  {speed:.2}"
            );
        }
    }
}
