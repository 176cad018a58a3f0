//! A loaded model on its device, behind one face for all backends.
//!
//! Whoever runs a model needs no type parameter, and a backend's kernels are compiled once, here.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;

use crate::config::Config;
use crate::device::Device;
use crate::device::backend::AimBackend;
#[cfg(feature = "cpu")]
use crate::device::cpu;
#[cfg(feature = "gpu")]
use crate::device::gpu;
pub use crate::device::host::HostTensor;
use crate::device::host::read;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Aim;
use crate::precision::{Form, Precision};
use crate::weights::checkpoint::Checkpoint;
use crate::weights::load;
use crate::weights::load::assemble::{Assembler, Loaded};
use crate::weights::load::sink::Sink;
use crate::weights::remote::{Event, RemoteModel, Transport};

/// What one pass over a batch gives.
#[derive(Clone, Debug, PartialEq)]
pub struct HostOutput {
    /// `[batch, num_classes]`
    pub logits: HostTensor,
    /// The outputs of the blocks asked for, in the order asked, each `[batch, tokens, embed_dim]`.
    pub features: Vec<HostTensor>,
}

/// A model that is ready to run. `images` are `[batch, num_channels, height, width]`, normalised.
///
/// A read from a lost device may never end: await these futures by [`Device::unless_lost`].
pub trait Engine {
    /// The model's shape.
    fn config(&self) -> &Config;

    /// How many blocks are loaded.
    fn blocks(&self) -> usize;

    /// How precisely the matrices are kept; never [`Precision::Auto`].
    fn precision(&self) -> Precision;

    /// Logits, and the outputs of some blocks, in one pass.
    ///
    /// Fails as [`Aim::logits_and_features`] and [`read`].
    fn logits_and_features<'a>(
        &'a self,
        images: HostTensor,
        layers: &'a [usize],
    ) -> LocalBoxFuture<'a, Result<HostOutput>>;

    /// The outputs of some blocks; none above the highest of them runs.
    ///
    /// Fails as [`Aim::features`] and [`read`].
    fn features<'a>(
        &'a self,
        images: HostTensor,
        layers: &'a [usize],
    ) -> LocalBoxFuture<'a, Result<Vec<HostTensor>>>;

    /// The outputs of some blocks under the prefix-causal mask of pre-training.
    ///
    /// Fails as [`Aim::causal_features`] and [`read`].
    fn causal_features<'a>(
        &'a self,
        images: HostTensor,
        layers: &'a [usize],
        prefix: usize,
    ) -> LocalBoxFuture<'a, Result<Vec<HostTensor>>>;
}

/// Tries a device with a product such as the probe and the first `blocks` blocks will ask for.
/// [`load()`] and [`fetch`] do so themselves; this is for whoever has another device to turn to.
///
/// # Errors
/// [`ErrorKind::DeviceLost`] if the product is wrong, and those of
/// [`Form::of`].
pub async fn self_check(
    config: &Config,
    blocks: usize,
    precision: Precision,
    device: &Device,
) -> Result<()> {
    match device {
        #[cfg(feature = "cpu")]
        Device::Cpu => check_form::<cpu::Cpu>(config, blocks, precision, &cpu::device()).await,
        #[cfg(feature = "gpu")]
        Device::Gpu(gpu) => {
            let check = check_form::<gpu::Gpu>(config, blocks, precision, &gpu.device);
            device.unless_lost(check).await
        }
    }
}

async fn check_form<B: AimBackend>(
    config: &Config,
    blocks: usize,
    precision: Precision,
    device: &B::Device,
) -> Result<()> {
    let [height, width] = config.img_size;
    check_attention::<B>(config, 1, [height, width])?;
    let form = Form::of(precision, config, blocks, B::PLACE)?;
    B::self_check(form, device).await
}

/// Attention keeps a weight for each pair of tokens and each head: the only thing that grows with the
/// square of a picture's area. An allocation that fails in wasm ends the instance, so it is counted before.
fn check_attention<B: AimBackend>(
    config: &Config,
    batch: usize,
    [height, width]: [usize; 2],
) -> Result<()> {
    let [rows, columns] = config.grid(height, width)?;
    let bytes = [rows, columns, rows, columns, config.num_heads, batch]
        .iter()
        .fold(4_u64, |bytes, &n| bytes.saturating_mul(n as u64));
    match B::PLACE.budget {
        Some(budget) if bytes > budget => Err(Error::new(
            ErrorKind::OutOfMemory,
            format!(
                "attention over {batch} pictures of {height}x{width} pixels needs {bytes} bytes at once, and this device may use {budget}: give smaller pictures, or fewer"
            ),
        )),
        _ => Ok(()),
    }
}

/// Loads the probe and the first `blocks` blocks from open files onto a device.
///
/// # Errors
/// As [`load::load`] and [`self_check`].
pub async fn load(
    files: &mut [Box<dyn Checkpoint>],
    config: Config,
    blocks: usize,
    precision: Precision,
    device: &Device,
) -> Result<Box<dyn Engine>> {
    self_check(&config, blocks, precision, device).await?;
    let mut model = begin(config.clone(), blocks, precision, device)?;
    load::load(files, &config, &mut *model)?;
    model.finish()
}

/// Fetches the probe and the first `blocks` blocks from a server onto a device.
///
/// # Errors
/// As [`RemoteModel::stream`] and [`self_check`].
pub async fn fetch<T: Transport>(
    model: RemoteModel<T>,
    blocks: usize,
    precision: Precision,
    device: &Device,
    report: &dyn Fn(Event),
) -> Result<Box<dyn Engine>> {
    self_check(&model.config, blocks, precision, device).await?;
    let mut engine = begin(model.config.clone(), blocks, precision, device)?;
    model.stream(&mut *engine, report).await?;
    engine.finish()
}

/// A model that is being loaded. Its backend is hidden, so that its kernels are compiled once, with
/// this library.
trait Loading: Sink {
    /// The model, once its tensors came.
    fn finish(self: Box<Self>) -> Result<Box<dyn Engine>>;
}

/// A model on a device, to be filled with the probe and the first `blocks` blocks.
fn begin(
    config: Config,
    blocks: usize,
    precision: Precision,
    device: &Device,
) -> Result<Box<dyn Loading>> {
    Ok(match device {
        #[cfg(feature = "cpu")]
        Device::Cpu => {
            let device = cpu::device();
            Box::new(Assembler::<cpu::Cpu>::new(
                config, blocks, precision, device,
            )?)
        }
        #[cfg(feature = "gpu")]
        Device::Gpu(gpu) => {
            let device = gpu.device.clone();
            Box::new(Assembler::<gpu::Gpu>::new(
                config, blocks, precision, device,
            )?)
        }
    })
}

impl<B: AimBackend> Loading for Assembler<B> {
    fn finish(self: Box<Self>) -> Result<Box<dyn Engine>> {
        let device = self.device().clone();
        let Loaded { model, precision } = Self::finish(*self)?;
        Ok(Box::new(OnBackend {
            model,
            precision,
            device,
        }))
    }
}

struct OnBackend<B: AimBackend> {
    model: Aim<B>,
    precision: Precision,
    device: B::Device,
}

impl<B: AimBackend> OnBackend<B> {
    fn images(&self, images: HostTensor) -> Result<Tensor<B, 4>> {
        let HostTensor { shape, values } = images;
        let dims: [usize; 4] = shape.as_slice().try_into().map_err(|_| {
            Error::option(format!(
                "the input has shape {shape:?}, but must be [batch, channels, height, width]"
            ))
        })?;
        if dims
            .iter()
            .try_fold(1_usize, |n, &side| n.checked_mul(side))
            != Some(values.len())
        {
            return Err(Error::option(format!(
                "the input has shape {shape:?}, but {} values",
                values.len()
            )));
        }
        if dims.contains(&0) {
            return Err(Error::option(format!(
                "the input has shape {shape:?}: there are no pictures in it"
            )));
        }
        let [batch, _, height, width] = dims;
        check_attention::<B>(self.model.config(), batch, [height, width])?;
        Ok(Tensor::from_data(
            TensorData::new(values, dims),
            &self.device,
        ))
    }
}

impl<B: AimBackend> Engine for OnBackend<B> {
    fn config(&self) -> &Config {
        self.model.config()
    }

    fn blocks(&self) -> usize {
        self.model.blocks()
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn logits_and_features<'a>(
        &'a self,
        images: HostTensor,
        layers: &'a [usize],
    ) -> LocalBoxFuture<'a, Result<HostOutput>> {
        async move {
            let images = self.images(images)?;
            let output = self.model.logits_and_features(images, layers)?;
            Ok(HostOutput {
                logits: read(output.logits).await?,
                features: read_all(output.features).await?,
            })
        }
        .boxed_local()
    }

    fn features<'a>(
        &'a self,
        images: HostTensor,
        layers: &'a [usize],
    ) -> LocalBoxFuture<'a, Result<Vec<HostTensor>>> {
        async move {
            let images = self.images(images)?;
            read_all(self.model.features(images, layers)?).await
        }
        .boxed_local()
    }

    fn causal_features<'a>(
        &'a self,
        images: HostTensor,
        layers: &'a [usize],
        prefix: usize,
    ) -> LocalBoxFuture<'a, Result<Vec<HostTensor>>> {
        async move {
            let images = self.images(images)?;
            read_all(self.model.causal_features(images, layers, prefix)?).await
        }
        .boxed_local()
    }
}

async fn read_all<B: Backend, const D: usize>(
    tensors: Vec<Tensor<B, D>>,
) -> Result<Vec<HostTensor>> {
    let mut read_tensors = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        read_tensors.push(read(tensor).await?);
    }
    Ok(read_tensors)
}
