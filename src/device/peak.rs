//! How fast a device multiplies matrices at most, by measurement: what a model's speed is held against.

use burn::tensor::{DType, Tensor, TensorData};
use half::f16;

use super::Device;
use super::backend::{AimBackend, PackedMatrix, Rows as _};
#[cfg(feature = "cpu")]
use super::cpu;
#[cfg(feature = "gpu")]
use super::gpu;
use super::host;
use crate::error::{Error, Result};
use crate::precision::{Precision, WeightFormat};
use crate::quant::{HalfMatrixBuilder, QuantMatrix, Scheme};

/// The sides of the matrices: from one that a slow device multiplies at all to one that fills a fast device. A page stops
/// before what its instance would have to keep of them.
const SIDES: &[usize] = if cfg!(target_family = "wasm") {
    &[256, 512, 1024, 2048]
} else {
    &[256, 512, 1024, 2048, 4096, 8192]
};

/// Matrices whose product would take more seconds than this are left out.
const LONG: f64 = 0.2;

/// For how many seconds the products of one side are repeated.
const SPAN: f64 = 0.15;

/// The floating-point operations a second that the fastest product of two large matrices reaches: of the device's own in f32,
/// on a GPU that computes in f16 also those in f16 unless `precision` is `fp32`, and of the product that a model of this
/// precision is made of.
///
/// It takes a second or two by `clock`, which gives seconds, and memory for three matrices of 8192 x 8192. A driver may not survive a kernel that it does
/// not know, so measure on a device that nobody needs any more.
///
/// # Errors
/// [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost) if nothing could be measured.
pub async fn flops(device: &Device, precision: Precision, clock: &dyn Fn() -> f64) -> Result<f64> {
    let form = match precision {
        Precision::Fp16 if device.is_gpu() => WeightFormat::Fp16,
        Precision::Auto | Precision::Fp32 | Precision::Fp16 => WeightFormat::Fp32,
        Precision::Q8 => WeightFormat::Quantised(Scheme::Q8),
        Precision::Q4 => WeightFormat::Quantised(Scheme::Q4),
    };
    let mut best = Best { clock, flops: None };
    match device {
        #[cfg(feature = "cpu")]
        Device::Cpu => {
            let device = cpu::device();
            best.plain::<cpu::Cpu>(&device, |x| x, cpu::Cpu::matmul)
                .await;
            best.own::<cpu::Cpu>(form, &device).await;
        }
        #[cfg(feature = "gpu")]
        Device::Gpu(gpu) => {
            let measuring = async {
                best.plain::<gpu::Gpu>(&gpu.device, |x| x, gpu::Gpu::matmul)
                    .await;
                best.own::<gpu::Gpu>(form, &gpu.device).await;
                if gpu.has_halves() && form != WeightFormat::Fp32 {
                    let halved = |x: Tensor<gpu::Gpu, 2>| x.cast(DType::F16);
                    best.plain::<gpu::Gpu>(&gpu.device, halved, gpu::Gpu::matmul)
                        .await;
                }
                Ok(())
            };
            // What was measured before a device is lost stays.
            let _ = device.unless_lost(measuring).await;
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) => {
            best.plain::<gpu::cuda::Cuda>(&gpu.device, |x| x, gpu::cuda::Cuda::matmul)
                .await;
            best.own::<gpu::cuda::Cuda>(form, &gpu.device).await;
            if form != WeightFormat::Fp32 {
                let halved = |x: Tensor<gpu::cuda::Cuda, 2>| x.cast(DType::F16);
                best.plain::<gpu::cuda::Cuda>(&gpu.device, halved, gpu::cuda::Cuda::matmul)
                    .await;
            }
        }
    }
    best.flops
        .ok_or_else(|| Error::device_lost("no product of large matrices could be measured"))
}

/// The fastest yet.
struct Best<'a> {
    clock: &'a dyn Fn() -> f64,
    flops: Option<f64>,
}

impl Best<'_> {
    /// A product of two matrices, after something is done to them.
    async fn plain<B: AimBackend>(
        &mut self,
        device: &B::Device,
        prepare: impl Fn(Tensor<B, 2>) -> Tensor<B, 2>,
        multiply: impl Fn(Tensor<B, 2>, Tensor<B, 2>) -> Tensor<B, 2>,
    ) {
        for &side in SIDES {
            if !fits::<B>(side, device) {
                return;
            }
            let [x, w] = [1, 2].map(|seed| prepare(matrix(side, seed, device)));
            if !self.time(side, || multiply(x.clone(), w.clone())).await {
                return;
            }
        }
    }

    /// The product that a model of a form is made of.
    async fn own<B: AimBackend>(&mut self, form: WeightFormat, device: &B::Device) {
        for &side in SIDES {
            if !fits::<B>(side, device) {
                return;
            }
            let Ok(w) = weights::<B>(side, form, device) else {
                return;
            };
            let x = matrix::<B>(side, 1, device);
            if !self.time(side, || B::product(x.clone(), &w)).await {
                return;
            }
        }
    }

    /// Times products of one side; false if larger ones are not worth trying.
    async fn time<B: AimBackend>(
        &mut self,
        side: usize,
        product: impl Fn() -> Tensor<B, 2>,
    ) -> bool {
        // Its kernel is compiled.
        if wait(product()).await.is_err() {
            return false;
        }
        let start = (self.clock)();
        if wait(product()).await.is_err() {
            return false;
        }
        let once = (self.clock)() - start;
        let times = (SPAN / once.max(1e-6)).clamp(1.0, 64.0) as u32;
        let start = (self.clock)();
        // A device does one after the other, so it is the last that is waited for.
        for _ in 1..times {
            drop(product());
        }
        if wait(product()).await.is_err() {
            return false;
        }
        let each = ((self.clock)() - start) / f64::from(times);
        let flops = 2.0 * (side as f64).powi(3) / each.max(1e-9);
        self.flops = Some(self.flops.map_or(flops, |best| best.max(flops)));
        // The next ones take eight times as long.
        8.0 * each <= LONG
    }
}

/// Waits until a matrix is computed: for one of its values, so that what the way to the host takes does not count.
async fn wait<B: AimBackend>(y: Tensor<B, 2>) -> Result<()> {
    // What a device refuses takes no time.
    B::failure(&y.device())?;
    let corner = y.slice([0..1, 0..1]).cast(DType::F32);
    host::read(corner).await.map(drop)
}

/// Whether a device takes matrices of f32 of this side.
fn fits<B: AimBackend>(side: usize, device: &B::Device) -> bool {
    let bytes = 4 * (side as u64).pow(2);
    let budget = B::WEIGHTS.budget.is_none_or(|budget| 4 * bytes <= budget);
    budget && B::check_size(bytes, device).is_ok()
}

/// Values that don't follow each other: a chip takes less power, and runs faster, with equal ones.
fn values(len: usize, seed: u32) -> impl Iterator<Item = u32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    (0..len).map(move |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    })
}

fn floats(len: usize, seed: u32) -> Vec<f32> {
    values(len, seed)
        .map(|bits| (bits >> 8) as f32 / (1 << 23) as f32 - 1.0)
        .collect()
}

fn matrix<B: AimBackend>(side: usize, seed: u32, device: &B::Device) -> Tensor<B, 2> {
    let values = TensorData::new(floats(side * side, seed), [side, side]);
    Tensor::from_data(values, device)
}

/// Random weights in a form.
fn weights<B: AimBackend>(
    side: usize,
    form: WeightFormat,
    device: &B::Device,
) -> Result<B::Matrix> {
    let packed = match form {
        WeightFormat::Fp32 => {
            let mut rows = B::Rows::new(side, side, device)?;
            rows.push(&floats(side * side, 2))?;
            return rows.finish();
        }
        WeightFormat::Fp16 => {
            let mut builder = HalfMatrixBuilder::new(side, side)?;
            builder.push(&floats(side * side, 2))?;
            PackedMatrix::Half(builder.finish()?)
        }
        WeightFormat::Quantised(scheme) => {
            let sizes = scheme.sizes(side, side)?;
            let codes = values(sizes.words, 2).collect();
            let most = scheme.bits().max_code() as f32;
            let scales = vec![f16::from_f32(2.0 / most); sizes.groups];
            let biases = vec![f16::NEG_ONE; sizes.groups];
            PackedMatrix::Quantised(QuantMatrix::new(side, side, scheme, codes, scales, biases)?)
        }
    };
    B::pack(packed, device)
}
