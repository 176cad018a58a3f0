//! A model written as shards: safetensors files in the order in which it runs, each with what a
//! browser needs next, and beside them the index, the configuration, the labels and the manifest.
//!
//! The format is in `docs/shards.md`. Tensors may come in any order and are written as they come:
//! of a matrix that is quantised only the result stands in memory, of all else a piece.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use half::f16;
use serde_json::{Map, Value, json};

use super::index::INDEX_FILE;
use super::manifest::{FileHashes, MANIFEST_FILE, Manifest};
use super::staging::{Staging, unwritable};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::image::{MEAN, STD};
use crate::labels::{LABELS_FILE, Labels};
use crate::quant::{Method, Quantizer, Scheme};
use crate::weights::checkpoint::Checkpoint;
use crate::weights::checkpoint::dtype::{Decoder, Dtype};
use crate::weights::checkpoint::safetensors::write_header;
use crate::weights::checkpoint::tensor_info::TensorInfo;
use crate::weights::inventory::{Located, group_names};
use crate::weights::layout::{self, Role, TensorSpec};
use crate::weights::load;
use crate::weights::load::sink::Sink;

/// The most bytes of one shard, unless a single tensor has more: 128 MiB.
pub const MAX_SHARD: u64 = 128 << 20;

/// Bytes decoded at once.
const PIECE: usize = 1 << 16;

/// How the matrices of a model are stored; all else is F32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredAs {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// 4 or 8 bits, with scales and biases in F16.
    Quantised(Scheme),
}

impl StoredAs {
    /// How one tensor is: only matrices of layers are in fewer bits, and in groups only those whose rows fall into them.
    fn of(self, spec: &TensorSpec) -> Self {
        match (self, spec.role, spec.shape.as_slice()) {
            (Self::F16, Role::Linear, _) => Self::F16,
            (Self::Quantised(scheme), Role::Linear, &[_, d_input]) if scheme.fits(d_input) => self,
            _ => Self::F32,
        }
    }

    const fn scheme(self) -> Option<Scheme> {
        match self {
            Self::Quantised(scheme) => Some(scheme),
            Self::F32 | Self::F16 => None,
        }
    }
}

/// What a tensor of the model becomes in a file: itself, or codes, scales and biases.
fn infos(spec: &TensorSpec, stored: StoredAs) -> Result<Vec<TensorInfo>> {
    let info = |name: &str, dtype, shape: &[usize]| TensorInfo {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
    };
    let whole = |dtype| Ok(vec![info(&spec.name, dtype, &spec.shape)]);
    match (stored.of(spec), spec.shape.as_slice()) {
        (StoredAs::F16, _) => whole(Dtype::F16),
        (StoredAs::Quantised(scheme), &[d_output, d_input]) => {
            let sizes = scheme.sizes(d_output, d_input)?;
            let [scales, biases] = group_names(&spec.name);
            let groups = [d_output, sizes.groups_per_row];
            Ok(vec![
                info(&spec.name, Dtype::U32, &[d_output, sizes.words_per_row]),
                info(&scales, Dtype::F16, &groups),
                info(&biases, Dtype::F16, &groups),
            ])
        }
        _ => whole(Dtype::F32),
    }
}

/// The shards of a model: for each the entries, in the order in which the model runs.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if a packed tensor is too large for any file; of others
/// [`write_header`] says it.
pub fn plan(config: &Config, stored: StoredAs) -> Result<Vec<Vec<TensorInfo>>> {
    let mut shards = vec![Vec::new()];
    // What a header takes is not known before it is written; this is more.
    let cost = |infos: &[TensorInfo]| {
        infos.iter().fold(0_u64, |sum, info| {
            sum.saturating_add(info.bytes()).saturating_add(256)
        })
    };
    let mut used = 0_u64;
    for spec in layout::tensors(config) {
        if spec.role == Role::Counter {
            continue;
        }
        // A matrix and its scales stay together: it can't be used without them.
        let own = infos(&spec, stored)?;
        let bytes = cost(&own);
        if used > 0 && used.saturating_add(bytes) > MAX_SHARD {
            shards.push(Vec::new());
            used = 0;
        }
        used = used.saturating_add(bytes);
        if let Some(shard) = shards.last_mut() {
            shard.extend(own);
        }
    }
    Ok(shards)
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Shards.
    pub shards: usize,
    /// Bytes of all shards.
    pub bytes: u64,
}

/// Writes a model as shards, tensor by tensor.
pub struct ShardWriter {
    staging: Staging,
    stored: StoredAs,
    config: Config,
    labels: Labels,
    shards: Vec<String>,
    /// Where each tensor goes: its shard and its offset there.
    places: BTreeMap<String, (usize, u64)>,
    /// Those that are there.
    written: BTreeSet<String>,
    open: Option<Open>,
}

/// A tensor whose bytes are arriving.
struct Open {
    name: String,
    decoder: Decoder,
    values: Vec<f32>,
    output: Output,
}

enum Output {
    Matrix(Quantizer),
    F16(BufWriter<File>),
    F32(BufWriter<File>),
}

impl ShardWriter {
    /// Begins the folder `output` with room for every tensor.
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if there is such a folder and `overwrite` is
    /// false or it holds other things than a model, or if it can't be written;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a model that is quantised
    /// already; those of [`plan`].
    pub fn new(
        output: &Path,
        overwrite: bool,
        config: Config,
        labels: Labels,
        stored: StoredAs,
    ) -> Result<Self> {
        if config.quantization.is_some() {
            return Err(Error::unsupported(
                "the model is quantised already: convert the one in floats that it came from",
            ));
        }
        let plan = plan(&config, stored)?;
        let staging = Staging::new(output, overwrite)?;
        let mut shards = Vec::with_capacity(plan.len());
        let mut places = BTreeMap::new();
        for (number, infos) in plan.iter().enumerate() {
            let name = format!("model-{:05}-of-{:05}.safetensors", number + 1, plan.len());
            let path = staging.dir().join(&name);
            let (front, starts) = write_header(infos, &[("format", "mlx")])?;
            let mut len = front.len() as u64;
            for (info, start) in infos.iter().zip(starts) {
                len = start.saturating_add(info.bytes());
                places.insert(info.name.clone(), (number, start));
            }
            let write = || {
                let mut file = File::create_new(&path)?;
                file.write_all(&front)?;
                file.set_len(len)
            };
            write().map_err(|error| unwritable(&path, &error))?;
            shards.push(name);
        }
        Ok(Self {
            staging,
            stored,
            config,
            labels,
            shards,
            places,
            written: BTreeSet::new(),
            open: None,
        })
    }

    /// Writes a model from files on this machine.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if a tensor of the model is in no file, [`ErrorKind::Format`](crate::ErrorKind::Format) if one is of no such model, [`ErrorKind::Option`](crate::ErrorKind::Option) if it can't be written,
    /// [`ErrorKind::Integrity`](crate::ErrorKind::Integrity) if bytes are not those of their hash.
    pub fn copy(&mut self, files: &mut [Box<dyn Checkpoint>], config: &Config) -> Result<()> {
        load::load(files, config, self)
    }

    /// Writes the small files, hashes the shards, and puts the folder in its place.
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if it can't be written;
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if a tensor did not come.
    pub fn finish(self) -> Result<Written> {
        if self.written.len() != self.places.len() {
            return Err(Error::not_found(format!(
                "{} of {} tensors came",
                self.written.len(),
                self.places.len()
            )));
        }
        let mut manifest = Manifest::default();
        let mut bytes = 0_u64;
        for name in &self.shards {
            let path = self.staging.dir().join(name);
            let hashes = File::open(&path)
                .and_then(|file| FileHashes::of(BufReader::with_capacity(1 << 20, file)))
                .map_err(|error| unwritable(&path, &error))?;
            bytes = bytes.saturating_add(hashes.size);
            manifest.insert(name, hashes);
        }
        let small = [
            (INDEX_FILE, self.index(bytes)),
            ("config.json", self.config()),
            (PREPROCESSOR_FILE, preprocessor_json(&self.config)),
            (LABELS_FILE, pretty(&json!(self.labels.names()))),
        ];
        for (name, text) in small {
            self.staging.write(name, &text)?;
            let hashes = FileHashes::of(text.as_bytes())
                .map_err(|error| unwritable(self.staging.dir(), &error))?;
            manifest.insert(name, hashes);
        }
        self.staging.write(MANIFEST_FILE, &manifest.to_json())?;
        let shards = self.shards.len();
        self.staging.finish()?;
        Ok(Written { shards, bytes })
    }

    fn index(&self, bytes: u64) -> String {
        let map: Map<String, Value> = self
            .places
            .iter()
            .map(|(tensor, (shard, _))| (tensor.clone(), json!(self.shards[*shard])))
            .collect();
        pretty(&json!({ "metadata": { "total_size": bytes }, "weight_map": map }))
    }

    fn config(&self) -> String {
        Config {
            quantization: self.stored.scheme(),
            ..self.config.clone()
        }
        .to_json()
    }

    /// A writer at the place of a tensor.
    fn at(&self, name: &str) -> Result<BufWriter<File>> {
        let Some((shard, start)) = self.places.get(name) else {
            return Err(Error::not_found(format!("tensor {name} has no place")));
        };
        let path = self.staging.dir().join(&self.shards[*shard]);
        let open = || {
            let mut file = OpenOptions::new().write(true).open(&path)?;
            file.seek(SeekFrom::Start(*start))?;
            Ok(BufWriter::with_capacity(1 << 20, file))
        };
        open().map_err(|error| unwritable(&path, &error))
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut file = self.at(name)?;
        file.write_all(bytes)
            .and_then(|()| file.flush())
            .map_err(|error| unwritable(self.staging.dir(), &error))?;
        self.written.insert(name.to_owned());
        Ok(())
    }
}

impl Sink for ShardWriter {
    fn wants(&self, spec: &TensorSpec) -> bool {
        spec.role != Role::Counter
    }

    fn begin(&mut self, located: Located, info: &TensorInfo) -> Result<()> {
        let spec = located.spec;
        let output = match (self.stored.of(&spec), spec.shape.as_slice()) {
            (StoredAs::F16, _) => Output::F16(self.at(&spec.name)?),
            (StoredAs::Quantised(scheme), &[d_output, d_input]) => {
                let method = Method::default();
                Output::Matrix(Quantizer::new(d_output, d_input, scheme, method)?)
            }
            _ => Output::F32(self.at(&spec.name)?),
        };
        self.open = Some(Open {
            name: spec.name,
            decoder: Decoder::new(info.dtype)?,
            values: Vec::new(),
            output,
        });
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        for piece in bytes.chunks(PIECE) {
            open.values.clear();
            open.decoder.push(piece, &mut open.values)?;
            let written = match &mut open.output {
                Output::Matrix(quantizer) => {
                    quantizer.push(&open.values)?;
                    Ok(())
                }
                Output::F32(file) => open
                    .values
                    .iter()
                    .try_for_each(|value| file.write_all(&value.to_le_bytes())),
                Output::F16(file) => {
                    let mut write = || {
                        for &value in &open.values {
                            let half = f16::from_f32(value);
                            if half.is_infinite() {
                                return Ok(Some(value));
                            }
                            file.write_all(&half.to_le_bytes())?;
                        }
                        Ok(None)
                    };
                    match write() {
                        Ok(None) => Ok(()),
                        Ok(Some(value)) => {
                            return Err(Error::unsupported(format!(
                                "{value:e} is over the range of float16; store it as fp32"
                            )));
                        }
                        Err(error) => Err(error),
                    }
                }
            };
            written.map_err(|error| unwritable(self.staging.dir(), &error))?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        match open.output {
            Output::F16(mut file) | Output::F32(mut file) => {
                open.decoder.finish()?;
                file.flush()
                    .map_err(|error| unwritable(self.staging.dir(), &error))?;
                self.written.insert(open.name);
            }
            Output::Matrix(quantizer) => {
                open.decoder.finish()?;
                let matrix = quantizer.finish()?;
                let [scales, biases] = group_names(&open.name);
                self.write(&open.name, &matrix.code_bytes())?;
                self.write(&scales, &matrix.scale_bytes())?;
                self.write(&biases, &matrix.bias_bytes())?;
            }
        }
        Ok(())
    }
}

/// How other programs prepare pictures for a model.
pub const PREPROCESSOR_FILE: &str = "preprocessor_config.json";

/// The text of that file, as Hugging Face's image processors read it.
pub fn preprocessor_json(config: &Config) -> String {
    let [height, width] = config.img_size;
    // ceil(size / 0.875)
    let shortest = height.min(width).saturating_mul(8).div_ceil(7);
    pretty(&json!({
        "do_resize": true,
        "size": { "shortest_edge": shortest },
        "resample": 3,
        "do_center_crop": true,
        "crop_size": { "height": height, "width": width },
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": MEAN,
        "image_std": STD,
    }))
}

fn pretty(value: &Value) -> String {
    // Values always have a JSON form.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}
