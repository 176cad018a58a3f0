//! A loaded model on its device, behind one face for all backends.
//!
//! Whoever runs a model needs no type parameter, and a backend's kernels are compiled once, here.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;

use crate::config::Config;
use crate::cost::{self, Headroom, Pass};
use crate::device::Device;
use crate::device::backend::{AimBackend, Rows as _};
#[cfg(feature = "cpu")]
use crate::device::cpu;
#[cfg(feature = "gpu")]
use crate::device::gpu;
pub use crate::device::host::HostTensor;
use crate::device::host::read;
use crate::error::{Error, Result};
use crate::model::linear::Linear;
use crate::model::{Aim, Params};
use crate::precision::{Precision, WeightFormat};
use crate::probe::Head;
use crate::weights::checkpoint::Checkpoint;
use crate::weights::load;
use crate::weights::load::assemble::{Assembler, Loaded};
use crate::weights::load::fingerprint::Fingerprint;
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

/// What becomes of the tokens of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// They stay: `[batch, tokens, embed_dim]`.
    None,
    /// Their mean: `[batch, embed_dim]`.
    Mean,
    /// As the probe's attention pools them, before it classifies: `[batch, embed_dim]`.
    Probe,
}

/// A model that is ready to run, on several threads at once if need be. `images` are `[batch, num_channels, height, width]`, normalised.
///
/// A read from a lost device may never end: await these futures by [`Device::unless_lost`].
pub trait Engine: Send + Sync {
    /// The model's shape.
    fn config(&self) -> &Config;

    /// How many blocks are loaded.
    fn blocks(&self) -> usize;

    /// How precisely the matrices are kept; never [`Precision::Auto`].
    fn precision(&self) -> Precision;

    /// The most pictures of the trained size, up to `wanted`, that one pass takes at present; 0 if there is no memory even
    /// for one.
    fn largest_batch(&self, wanted: usize) -> usize;

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

    /// The mean over the outputs of some blocks, which is what the probe reads, pooled. A layer listed twice counts
    /// twice.
    ///
    /// Fails as [`Aim::mean_of_layers`] and [`read`].
    fn pooled<'a>(
        &'a self,
        images: HostTensor,
        layers: &'a [usize],
        pool: Pool,
    ) -> LocalBoxFuture<'a, Result<HostTensor>>;

    /// What the head reads, the mean of the probe layers: `[batch, tokens, embed_dim]`.
    ///
    /// Fails as [`pooled`](Self::pooled).
    fn probed(&self, images: HostTensor) -> LocalBoxFuture<'_, Result<HostTensor>> {
        self.pooled(images, &self.config().probe_layers, Pool::None)
    }

    /// A SHA-256 over names, shapes and CRC-32s of the trunk's tensors, in hexadecimal digits: it tells one trunk from
    /// another, but is no proof against forgery.
    fn trunk_sha256(&self) -> &str;

    /// The same model, its trunk shared, with another head. The caller checks that the head belongs to this trunk.
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if the head is of another shape; those of [`Aim::with_head`].
    fn with_head(&self, head: &Head) -> Result<Box<dyn Engine>>;

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
/// [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost) if the product is wrong; and those of [`largest_batch`].
pub async fn self_check(
    config: &Config,
    blocks: usize,
    precision: Precision,
    device: &Device,
) -> Result<()> {
    match device {
        #[cfg(feature = "cpu")]
        Device::Cpu => {
            check_form::<cpu::Cpu>(config, blocks, precision, &cpu::device(), None).await
        }
        #[cfg(feature = "gpu")]
        Device::Gpu(gpu) => {
            let (device_there, memory) = (&gpu.device, gpu.memory);
            let check = check_form::<gpu::Gpu>(config, blocks, precision, device_there, memory);
            device.unless_lost(check).await
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) => {
            let (device, memory) = (&gpu.device, gpu.memory);
            check_form::<gpu::cuda::Cuda>(config, blocks, precision, device, memory).await
        }
    }
}

async fn check_form<B: AimBackend>(
    config: &Config,
    blocks: usize,
    precision: Precision,
    device: &B::Device,
    memory: Option<u64>,
) -> Result<()> {
    cost::largest_batch::<B>(config, blocks, precision, device, memory, 1)?;
    let form = WeightFormat::of(precision, config, blocks, B::WEIGHTS)?;
    B::self_check(form, config.embed_dim / config.num_heads, device).await
}

/// The most pictures of the trained size, up to `wanted`, that a model with its first `blocks` blocks will take at once on a
/// device: what can be counted before anything is loaded. The weights count too where it is known what the device has.
///
/// # Errors
/// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if not even one picture fits: it names the dtype that does. Those of [`WeightFormat::of`].
pub fn largest_batch(
    config: &Config,
    blocks: usize,
    precision: Precision,
    device: &Device,
    wanted: usize,
) -> Result<usize> {
    match device {
        #[cfg(feature = "cpu")]
        Device::Cpu => {
            let device = cpu::device();
            cost::largest_batch::<cpu::Cpu>(config, blocks, precision, &device, None, wanted)
        }
        #[cfg(feature = "gpu")]
        Device::Gpu(gpu) => {
            let (device, memory) = (&gpu.device, gpu.memory);
            cost::largest_batch::<gpu::Gpu>(config, blocks, precision, device, memory, wanted)
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) => {
            let (device, memory) = (&gpu.device, gpu.memory);
            cost::largest_batch::<gpu::cuda::Cuda>(
                config, blocks, precision, device, memory, wanted,
            )
        }
    }
}

/// What the matrices of the probe and of the first `blocks` blocks become on a device.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if rows are to be quantised that don't fall into whole groups.
pub fn weight_format(
    config: &Config,
    blocks: usize,
    precision: Precision,
    device: &Device,
) -> Result<WeightFormat> {
    let support = match device {
        #[cfg(feature = "cpu")]
        Device::Cpu => cpu::Cpu::WEIGHTS,
        #[cfg(feature = "gpu")]
        Device::Gpu(_) => gpu::Gpu::WEIGHTS,
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => gpu::cuda::Cuda::WEIGHTS,
    };
    WeightFormat::of(precision, config, blocks, support)
}

/// Loads the probe and the first `blocks` blocks from open files onto a device.
///
/// # Errors
/// - [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if a tensor of the model is in no file;
/// - [`ErrorKind::Format`](crate::ErrorKind::Format) if a tensor is of no such model, is there twice, has another shape or values
///   that are not finite, or its file is broken;
/// - [`ErrorKind::Integrity`](crate::ErrorKind::Integrity) if bytes are not those of a hash beside the files;
/// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the precision can't be had of these weights;
/// - [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if the weights and one picture don't fit: it names the dtype that does;
/// - [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost) if the device stops, or multiplies wrongly.
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
    model.finish(device.memory())
}

/// As [`load()`], and a hash that tells the model's weights from others: see [`Fingerprint::finish`].
///
/// # Errors
/// As [`load()`].
pub async fn load_with_fingerprint(
    files: &mut [Box<dyn Checkpoint>],
    config: Config,
    blocks: usize,
    precision: Precision,
    device: &Device,
) -> Result<(Box<dyn Engine>, String)> {
    self_check(&config, blocks, precision, device).await?;
    let mut model = begin(config.clone(), blocks, precision, device)?;
    let mut fingerprint = Fingerprint::new(&mut *model);
    load::load(files, &config, &mut fingerprint)?;
    let fingerprint = fingerprint.finish(&config);
    Ok((model.finish(device.memory())?, fingerprint))
}

/// Fetches the probe and the first `blocks` blocks from a server onto a device.
///
/// # Errors
/// - [`ErrorKind::Network`](crate::ErrorKind::Network) if the server can't be reached or keeps failing, [`ErrorKind::Aborted`](crate::ErrorKind::Aborted) if the caller
///   gives up;
/// - [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if a tensor of the model is in no file;
/// - [`ErrorKind::Format`](crate::ErrorKind::Format) if a tensor is of no such model, is there twice, has another shape or values
///   that are not finite, or its file is broken;
/// - [`ErrorKind::Integrity`](crate::ErrorKind::Integrity) if bytes are not those of the hash or the length that was promised;
/// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the precision can't be had of these weights;
/// - [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if the weights and one picture don't fit: it names the dtype that does;
/// - [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost) if the device stops, or multiplies wrongly.
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
    engine.finish(device.memory())
}

/// As [`fetch`], and a hash that tells the model's weights from others: see [`Fingerprint::finish`].
///
/// # Errors
/// As [`fetch`].
pub async fn fetch_with_fingerprint<T: Transport>(
    model: RemoteModel<T>,
    blocks: usize,
    precision: Precision,
    device: &Device,
    report: &dyn Fn(Event),
) -> Result<(Box<dyn Engine>, String)> {
    self_check(&model.config, blocks, precision, device).await?;
    let mut engine = begin(model.config.clone(), blocks, precision, device)?;
    let mut fingerprint = Fingerprint::new(&mut *engine);
    model.stream(&mut fingerprint, report).await?;
    let fingerprint = fingerprint.finish(&model.config);
    Ok((engine.finish(device.memory())?, fingerprint))
}

/// A model that is being loaded. Its backend is hidden, so that its kernels are compiled once, with
/// this library.
trait Loading: Sink {
    /// The model, once its tensors came; `memory` is what its device had, where something says it.
    fn finish(self: Box<Self>, memory: Option<u64>) -> Result<Box<dyn Engine>>;
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
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) => {
            let device = gpu.device.clone();
            Box::new(Assembler::<gpu::cuda::Cuda>::new(
                config, blocks, precision, device,
            )?)
        }
    })
}

impl<B: AimBackend> Loading for Assembler<B> {
    fn finish(self: Box<Self>, memory: Option<u64>) -> Result<Box<dyn Engine>> {
        let device = self.device().clone();
        let Loaded {
            model,
            form,
            trunk_sha256,
        } = Self::finish(*self)?;
        let weights = form.weight_bytes(model.config(), model.blocks());
        Ok(Box::new(OnBackend {
            headroom: Headroom::beside::<B>(weights, memory),
            precision: form.precision(),
            model,
            trunk_sha256,
            device,
        }))
    }
}

struct OnBackend<B: AimBackend> {
    model: Aim<B>,
    precision: Precision,
    trunk_sha256: String,
    device: B::Device,
    headroom: Headroom,
}

impl<B: AimBackend> OnBackend<B> {
    /// The input of a pass on its device.
    fn images(&self, images: HostTensor, kept: usize, is_masked: bool) -> Result<Tensor<B, 4>> {
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
        // Clears a failure that an earlier pass left on this thread.
        let _ = B::failure(&self.device);
        let [batch, _, height, width] = dims;
        let pass = Pass {
            batch,
            size: [height, width],
            kept,
            is_masked,
        };
        pass.check::<B>(self.model.config(), self.headroom, &self.device)?;
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

    fn largest_batch(&self, wanted: usize) -> usize {
        let config = self.model.config();
        Pass::over(wanted, config)
            .largest_batch::<B>(config, self.headroom, &self.device)
            // The trained size is at least one patch.
            .unwrap_or_default()
    }

    fn logits_and_features<'a>(
        &'a self,
        images: HostTensor,
        layers: &'a [usize],
    ) -> LocalBoxFuture<'a, Result<HostOutput>> {
        async move {
            let images = self.images(images, layers.len(), false)?;
            let output = self.model.logits_and_features(images, layers)?;
            B::failure(&self.device)?;
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
            let images = self.images(images, layers.len(), false)?;
            let features = self.model.features(images, layers)?;
            B::failure(&self.device)?;
            read_all(features).await
        }
        .boxed_local()
    }

    fn pooled<'a>(
        &'a self,
        images: HostTensor,
        layers: &'a [usize],
        pool: Pool,
    ) -> LocalBoxFuture<'a, Result<HostTensor>> {
        async move {
            let images = self.images(images, 1, false)?;
            let tokens = self.model.mean_of_layers(images, layers)?;
            match pool {
                Pool::None => {
                    B::failure(&self.device)?;
                    read(tokens).await
                }
                Pool::Mean => {
                    let mean: Tensor<B, 2> = tokens.mean_dim(1).squeeze_dim(1);
                    B::failure(&self.device)?;
                    read(mean).await
                }
                Pool::Probe => {
                    let pooled = self.model.pooled_by_probe(tokens);
                    B::failure(&self.device)?;
                    read(pooled).await
                }
            }
        }
        .boxed_local()
    }

    fn trunk_sha256(&self) -> &str {
        &self.trunk_sha256
    }

    fn with_head(&self, head: &Head) -> Result<Box<dyn Engine>> {
        let config = self.model.config();
        if (head.dim(), head.num_heads) != (config.embed_dim, config.num_heads) {
            return Err(Error::option(format!(
                "the head has {} channels and {} heads of attention, but the model has {} and {}",
                head.dim(),
                head.num_heads,
                config.embed_dim,
                config.num_heads
            )));
        }
        let params = head_params(head, &self.device)?;
        Ok(Box::new(Self {
            model: self.model.with_head(head.num_classes(), params)?,
            precision: self.precision,
            trunk_sha256: self.trunk_sha256.clone(),
            device: self.device.clone(),
            headroom: self.headroom,
        }))
    }

    fn causal_features<'a>(
        &'a self,
        images: HostTensor,
        layers: &'a [usize],
        prefix: usize,
    ) -> LocalBoxFuture<'a, Result<Vec<HostTensor>>> {
        async move {
            let images = self.images(images, layers.len(), true)?;
            let features = self.model.causal_features(images, layers, prefix)?;
            B::failure(&self.device)?;
            read_all(features).await
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

/// A head on a device, in floats.
fn head_params<B: AimBackend>(head: &Head, device: &B::Device) -> Result<Params<B>> {
    let (dim, classes) = (head.dim(), head.num_classes());
    let mut params = Params::default();
    let vectors: [(&str, &[f32], &[usize]); 3] = [
        ("head.bn.running_mean", &head.running_mean, &[dim]),
        ("head.bn.running_var", &head.running_var, &[dim]),
        ("head.cls_token", &head.cls_token, &[1, 1, dim]),
    ];
    for (name, values, shape) in vectors {
        let data = TensorData::new(values.to_vec(), [values.len()]);
        params.insert(name, Tensor::from_data(data, device), shape);
    }
    let matrices = [
        ("head.k.weight", &head.k, dim),
        ("head.v.weight", &head.v, dim),
        ("head.linear.weight", &head.linear, classes),
    ];
    for (name, values, d_output) in matrices {
        let mut rows = B::Rows::new(d_output, dim, device)?;
        rows.push(values)?;
        let linear = Linear::new(rows.finish()?, [d_output, dim]);
        params.insert_linear(name, linear);
    }
    Ok(params)
}
