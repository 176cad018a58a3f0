//! One tensor after the other, from bytes as they arrive to a parameter on its device.
//!
//! Matrices are quantised row by row on the way, so that none ever stands in memory in f32 that the
//! model keeps in fewer bits.

use std::collections::HashMap;

use burn::tensor::{Tensor, TensorData};
use half::f16;

use super::sink::Sink;
use super::trunk_hash::TrunkHasher;
use crate::config::Config;
use crate::device::backend::{AimBackend, PackedMatrix, Rows};
use crate::error::{Error, Result};
use crate::model::linear::Linear;
use crate::model::{Aim, Params};
use crate::precision::{Precision, WeightFormat};
use crate::quant::{HalfMatrixBuilder, Method, QuantMatrix, Quantizer, dequantize};
use crate::weights::checkpoint::collect::{Floats, Words};
use crate::weights::checkpoint::dtype::Decoder;
use crate::weights::checkpoint::tensor_info::TensorInfo;
use crate::weights::inventory::{Located, Part};
use crate::weights::layout::{Role, TensorSpec};

/// How many bytes are decoded at once on their way into a [`Quantizer`].
const PIECE: usize = 1 << 16;

/// A model on its device.
pub struct Loaded<B: AimBackend> {
    /// The model.
    pub model: Aim<B>,
    /// What its matrices became.
    pub form: WeightFormat,
    /// The hash of the trunk's tensors, as they came.
    pub trunk_sha256: String,
}

/// Collects the tensors of a model on its device.
pub struct Assembler<B: AimBackend> {
    config: Config,
    blocks: usize,
    form: WeightFormat,
    params: Params<B>,
    /// Quantised matrices that are not complete, by the names of their weights.
    parts: HashMap<String, Parts>,
    arriving: Option<Arriving<B>>,
    trunk: TrunkHasher,
    device: B::Device,
}

/// What has arrived of a quantised matrix.
#[derive(Default)]
struct Parts {
    codes: Option<Vec<u32>>,
    scales: Option<Vec<f16>>,
    biases: Option<Vec<f16>>,
}

/// A tensor whose bytes are arriving.
struct Arriving<B: AimBackend> {
    spec: TensorSpec,
    part: Part,
    content: Content<B>,
}

/// What becomes of the bytes.
enum Content<B: AimBackend> {
    /// They are decoded.
    Floats(Floats),
    /// They are decoded and go to the device.
    Rows(Decoder, B::Rows),
    /// They are decoded and quantised.
    Quantised(Decoder, Quantizer),
    /// They are decoded and rounded to f16.
    Half(Decoder, HalfMatrixBuilder),
    /// They are codes.
    Codes(Words),
}

/// Decodes bytes and passes the values on, not too many at once.
fn decode(
    decoder: &mut Decoder,
    bytes: &[u8],
    mut sink: impl FnMut(&[f32]) -> Result<()>,
) -> Result<()> {
    let mut values = Vec::new();
    for piece in bytes.chunks(PIECE) {
        values.clear();
        decoder.push(piece, &mut values)?;
        sink(&values)?;
    }
    Ok(())
}

impl<B: AimBackend> Assembler<B> {
    /// An empty model on `device`, to be filled with the probe and the first `blocks` blocks.
    ///
    /// # Errors
    /// As [`WeightFormat::of`].
    pub fn new(
        config: Config,
        blocks: usize,
        precision: Precision,
        device: B::Device,
    ) -> Result<Self> {
        Ok(Self {
            form: WeightFormat::of(precision, &config, blocks, B::WEIGHTS)?,
            config,
            blocks,
            params: Params::default(),
            parts: HashMap::new(),
            arriving: None,
            trunk: TrunkHasher::default(),
            device,
        })
    }

    /// Where the model goes.
    pub const fn device(&self) -> &B::Device {
        &self.device
    }

    fn floats(&self, info: &TensorInfo) -> Result<Floats> {
        B::check_size(info.numel().saturating_mul(4), &self.device)?;
        Floats::new(info)
    }

    /// Room for a matrix of floats.
    fn rows(&self, d_output: usize, d_input: usize) -> Result<B::Rows> {
        let numel = (d_output as u64).saturating_mul(d_input as u64);
        B::check_size(numel.saturating_mul(4), &self.device)?;
        B::Rows::new(d_output, d_input, &self.device)
    }

    /// Adds a part of a quantised matrix, and the matrix if it is the last one.
    fn part(&mut self, spec: &TensorSpec, part: Part, set: impl FnOnce(&mut Parts)) -> Result<()> {
        let parts = self.parts.entry(spec.name.clone()).or_default();
        set(parts);
        let (Part::Codes(scheme) | Part::Scales(scheme) | Part::Biases(scheme)) = part else {
            return Ok(());
        };
        if parts.codes.is_none() || parts.scales.is_none() || parts.biases.is_none() {
            return Ok(());
        }
        let (
            Some(Parts {
                codes: Some(codes),
                scales: Some(scales),
                biases: Some(biases),
            }),
            &[d_output, d_input],
        ) = (self.parts.remove(&spec.name), spec.shape.as_slice())
        else {
            return Ok(());
        };
        let matrix = QuantMatrix::new(d_output, d_input, scheme, codes, scales, biases)?;
        match self.form {
            WeightFormat::Quantised(wanted) if wanted == scheme => {
                self.pack(spec, PackedMatrix::Quantised(matrix))
            }
            WeightFormat::Quantised(wanted) => {
                let mut quantizer = Quantizer::new(d_output, d_input, wanted, Method::default())?;
                rows(&matrix, |row| quantizer.push(row))?;
                self.pack(spec, PackedMatrix::Quantised(quantizer.finish()?))
            }
            WeightFormat::Fp16 => {
                let mut builder = HalfMatrixBuilder::new(d_output, d_input)?;
                rows(&matrix, |row| builder.push(row))?;
                self.pack(spec, PackedMatrix::Half(builder.finish()?))
            }
            WeightFormat::Fp32 => {
                let mut floats = self.rows(d_output, d_input)?;
                rows(&matrix, |row| floats.push(row))?;
                self.float(spec, floats)
            }
        }
    }

    fn pack(&mut self, spec: &TensorSpec, matrix: PackedMatrix) -> Result<()> {
        let dims = matrix.dims();
        let matrix = B::pack(matrix, &self.device)?;
        self.params
            .insert_linear(&spec.name, Linear::new(matrix, dims));
        Ok(())
    }

    fn float(&mut self, spec: &TensorSpec, rows: B::Rows) -> Result<()> {
        let d_output = spec.shape.first().copied().unwrap_or_default();
        let d_input = spec.shape.iter().skip(1).product();
        let linear = Linear::new(rows.finish()?, [d_output, d_input]);
        self.params.insert_linear(&spec.name, linear);
        Ok(())
    }

    /// Builds the model once its tensors are here.
    ///
    /// # Errors
    /// As [`Aim::new`].
    pub fn finish(self) -> Result<Loaded<B>> {
        Ok(Loaded {
            model: Aim::new(self.config, self.blocks, self.params, &self.device)?,
            form: self.form,
            trunk_sha256: self.trunk.finish(),
        })
    }
}

impl<B: AimBackend> Sink for Assembler<B> {
    /// The tensors of the probe and of the blocks that run.
    fn wants(&self, spec: &TensorSpec) -> bool {
        spec.is_needed(self.blocks)
    }

    /// Makes room for a tensor.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if its elements are no floats or
    /// the device can't hold so many, [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if
    /// it does not fit here.
    fn begin(&mut self, located: Located, info: &TensorInfo) -> Result<()> {
        let Located { spec, part, .. } = located;
        self.trunk.begin(&spec.name, part, info);
        let content = match (part, spec.role, spec.shape.as_slice()) {
            (Part::Codes(_), ..) => Content::Codes(Words::new(info)?),
            (Part::Whole, Role::Linear, &[d_output, d_input]) => match self.form {
                // What a quantised checkpoint holds in floats, its publisher wanted so.
                WeightFormat::Quantised(scheme) if self.config.quantization.is_none() => {
                    Content::Quantised(
                        Decoder::new(info.dtype)?,
                        Quantizer::new(d_output, d_input, scheme, Method::default())?,
                    )
                }
                WeightFormat::Fp16 => Content::Half(
                    Decoder::new(info.dtype)?,
                    HalfMatrixBuilder::new(d_output, d_input)?,
                ),
                WeightFormat::Fp32 | WeightFormat::Quantised(_) => {
                    Content::Rows(Decoder::new(info.dtype)?, self.rows(d_output, d_input)?)
                }
            },
            (Part::Whole, Role::Patches, &[d_output, ..]) => {
                let d_input = spec.shape.iter().skip(1).product();
                Content::Rows(Decoder::new(info.dtype)?, self.rows(d_output, d_input)?)
            }
            _ => Content::Floats(self.floats(info)?),
        };
        self.arriving = Some(Arriving {
            spec,
            part,
            content,
        });
        Ok(())
    }

    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if a value is not finite;
    /// those of [`Quantizer::push`] and [`HalfMatrixBuilder::push`].
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(arriving) = &mut self.arriving else {
            return Ok(());
        };
        self.trunk.push(bytes);
        match &mut arriving.content {
            Content::Floats(floats) => floats.push(bytes),
            Content::Rows(decoder, rows) => decode(decoder, bytes, |values| rows.push(values)),
            Content::Codes(words) => {
                words.push(bytes);
                Ok(())
            }
            Content::Quantised(decoder, quantizer) => {
                decode(decoder, bytes, |values| quantizer.push(values))
            }
            Content::Half(decoder, builder) => {
                decode(decoder, bytes, |values| builder.push(values))
            }
        }
    }

    /// Moves the tensor to the device and drops its bytes here. Codes, scales and biases wait for
    /// each other.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if bytes are missing; those of
    /// [`AimBackend::pack`] and of the change from one quantisation to another.
    fn end(&mut self) -> Result<()> {
        let Some(Arriving {
            spec,
            part,
            content,
        }) = self.arriving.take()
        else {
            return Ok(());
        };
        self.trunk.end();
        match content {
            Content::Rows(decoder, rows) => {
                decoder.finish()?;
                self.float(&spec, rows)
            }
            Content::Quantised(decoder, quantizer) => {
                decoder.finish()?;
                self.pack(&spec, PackedMatrix::Quantised(quantizer.finish()?))
            }
            Content::Half(decoder, builder) => {
                decoder.finish()?;
                self.pack(&spec, PackedMatrix::Half(builder.finish()?))
            }
            Content::Codes(words) => {
                let words = words.finish()?;
                self.part(&spec, part, |parts| parts.codes = Some(words))
            }
            Content::Floats(floats) => {
                let values = floats.finish()?;
                match (part, spec.shape.as_slice()) {
                    (Part::Scales(_), _) => {
                        let scales = halves(&values)?;
                        self.part(&spec, part, |parts| parts.scales = Some(scales))
                    }
                    (Part::Biases(_), _) => {
                        let biases = halves(&values)?;
                        self.part(&spec, part, |parts| parts.biases = Some(biases))
                    }
                    (_, shape) => {
                        let len = values.len();
                        let flat = TensorData::new(values, [len]);
                        let flat = Tensor::from_data(flat, &self.device);
                        self.params.insert(&spec.name, flat, shape);
                        Ok(())
                    }
                }
            }
        }
    }
}

/// Passes on a matrix row by row.
fn rows(matrix: &QuantMatrix, mut sink: impl FnMut(&[f32]) -> Result<()>) -> Result<()> {
    let mut row = vec![0.0; matrix.d_input()];
    for r in 0..matrix.d_output() {
        dequantize::row(matrix, r, &mut row)?;
        sink(&row)?;
    }
    Ok(())
}

/// Scales or biases as they are kept in memory: exact if the file has them in f16.
fn halves(values: &[f32]) -> Result<Vec<f16>> {
    values
        .iter()
        .enumerate()
        .map(|(at, &value)| {
            let half = f16::from_f32(value);
            if half.is_finite() {
                return Ok(half);
            }
            Err(Error::unsupported(format!(
                "element {at} is {value:e}, over the range of float16"
            )))
        })
        .collect()
}
