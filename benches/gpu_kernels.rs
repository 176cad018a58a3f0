//! Our products on a GPU against burn's in f32, in turns.
//!
//! `cargo bench --bench gpu_kernels`. Times are medians, each with the read that ends a product. A software driver
//! will do; then the ratios are those of the CPU that plays the GPU.

#![allow(clippy::unwrap_used)]

mod timing;

use aim_web::device::backend::{AimBackend, PackedMatrix, Rows as _};
use aim_web::device::gpu::{Adapters, Gpu, open};
use aim_web::device::host::read;
use aim_web::quant::{HalfMatrixBuilder, Method, Quantizer, Scheme};
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
        "{:>5} {:>5} {:>5}  {:>8} {:>8} {:>8} {:>8}  of burn's f32, GFLOP/s",
        "n", "out", "in", "f32", "f16", "q8", "q4"
    );
    for [d_output, d_input] in [[576, 192], [1152, 384], [384, 1536], [1536, 1536]] {
        let w = values(d_output * d_input);
        let mut builder = HalfMatrixBuilder::new(d_output, d_input).unwrap();
        builder.push(&w).unwrap();
        let mut packed = vec![PackedMatrix::Half(builder.finish().unwrap())];
        for scheme in [Scheme::Q8, Scheme::Q4] {
            let mut quantizer = Quantizer::new(d_output, d_input, scheme, Method::Nearest).unwrap();
            quantizer.push(&w).unwrap();
            packed.push(PackedMatrix::Quantised(quantizer.finish().unwrap()));
        }
        let mut rows = <Gpu as AimBackend>::Rows::new(d_output, d_input, &gpu.device).unwrap();
        rows.push(&w).unwrap();
        let ours: Vec<_> = std::iter::once(rows.finish().unwrap())
            .chain(
                packed
                    .into_iter()
                    .map(|matrix| Gpu::pack(matrix, &gpu.device).unwrap()),
            )
            .collect();
        let float = TensorData::new(w, [d_input, d_output]);
        let float = Tensor::<Gpu, 2>::from_data(float, &gpu.device);
        for n in [1, 256] {
            let x = TensorData::new(values(n * d_input), [n, d_input]);
            let x = Tensor::<Gpu, 2>::from_data(x, &gpu.device);
            let [f32, half, q8, q4] = [0, 1, 2, 3].map(|i| {
                let (x, ours) = (&x, &ours);
                move || run(|| Gpu::product(x.clone(), &ours[i]))
            });
            let burns = || run(|| x.clone().matmul(float.clone()));
            let all = |rounds| {
                in_turns(
                    rounds,
                    [&mut &burns, &mut &f32, &mut &half, &mut &q8, &mut &q4],
                )
            };
            // The first of each compiles its kernel.
            all(1);
            let [burns, times @ ..] = all(ROUNDS);
            let speed = 2e-9 * (n * d_output * d_input) as f64 / burns;
            let [f32, half, q8, q4] = times.map(|time| time / burns);
            println!(
                "{n:>5} {d_output:>5} {d_input:>5}  {f32:>8.3} {half:>8.3} {q8:>8.3} {q4:>8.3}  {speed:.2}"
            );
        }
    }
}
