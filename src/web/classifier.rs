//! The class that JavaScript sees.

use std::future::Future;
use std::rc::Rc;

use half::slice::HalfFloatSliceExt as _;
use js_sys::{Array, Float32Array, Object, Promise, Uint16Array};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast as _, JsValue};

use super::backend;
use super::cache::WebCache;
use super::error::{event_to_js, set, to_js};
use super::fetch::Fetch;
use super::lesson::Lesson;
use super::options::Options;
use super::promise::{promise, ready};
use super::timer;
use crate::classifier::{Classifier as Inner, predictions};
use crate::cost;
use crate::device::{Device, peak};
use crate::engine::{self, HostTensor};
use crate::error::{Error, ErrorKind, Result};
use crate::probe::examples::halves;
use crate::probe::file::EMBEDDED;
use crate::probe::{HeadFile, Trunk};
use crate::weights::remote::client::Client;
use crate::weights::remote::{Event, Location, RemoteModel, Repository, Status, Store, Wanted};

/// A loaded model on its device.
#[wasm_bindgen]
pub struct Classifier {
    state: Rc<State>,
}

struct State {
    inner: Inner,
    device: Rc<Owned>,
    /// The head that was taught, if it is not the model's own.
    head: Option<HeadFile>,
    /// The trunk that a head alone named, and that was loaded.
    named: Option<Trunk>,
    /// Bytes that came from the server, and from the cache.
    traffic: (u64, u64),
    load_ms: f64,
    warmup_ms: f64,
}

/// A device, for as long as a model on it is held: all heads of a trunk share it.
struct Owned(Device);

/// burn keeps every device it was ever given: without this the memory of a GPU would stay taken.
impl Drop for Owned {
    fn drop(&mut self) {
        self.0.destroy();
    }
}

#[wasm_bindgen]
impl Classifier {
    /// Opens the device, fetches the model, and runs it once.
    pub fn load(options: JsValue) -> Promise {
        promise(async move {
            let options = Options::from_js(&options).map_err(|error| to_js(&error))?;
            let signal = options.signal.clone();
            let loaded = load(options).await;
            // Whatever failed on the way, an abort is reported with the reason that the caller gave.
            if let Some(signal) = signal.filter(web_sys::AbortSignal::aborted) {
                return Err(signal.reason());
            }
            let state = Rc::new(loaded.map_err(|error| to_js(&error))?);
            Ok(Self { state }.into())
        })
    }

    /// Crops and normalises a picture of packed RGBA rows: `[3, size, size]`, what the questions below take one after the
    /// other.
    ///
    /// # Errors
    /// [`ErrorKind::Image`](crate::ErrorKind::Image) if the picture has no pixels, [`ErrorKind::Option`](crate::ErrorKind::Option) if `rgba` isn't `4 * width * height` bytes long.
    pub fn prepare(&self, rgba: &[u8], width: u32, height: u32) -> Result<Vec<f32>, JsValue> {
        ready()?;
        let inner = &self.state.inner;
        inner
            .images_of_rgba(rgba, width as usize, height as usize)
            .map(|image| image.values)
            .map_err(|error| to_js(&error))
    }

    /// The likeliest classes of each picture: lists of `{label, score, index}`.
    pub fn classify(&self, images: Vec<f32>, top_k: u32) -> Promise {
        self.state.answer(async move |state| {
            let labels = state.inner.labels();
            let logits = state.logits(images).await?;
            let lists = logits.iter().map(|logits| {
                let list = Array::new();
                for prediction in predictions(logits, labels, top_k as usize) {
                    let object = Object::new();
                    set(&object, "label", prediction.label);
                    set(&object, "score", prediction.score);
                    set(&object, "index", prediction.index as u32);
                    list.push(&object);
                }
                list
            });
            Ok(lists.collect::<Array>().into())
        })
    }

    /// The logits of each picture: `Float32Array`s.
    pub fn logits(&self, images: Vec<f32>) -> Promise {
        self.state.answer(async move |state| {
            let logits = state.logits(images).await?;
            let lists = logits.iter().map(|logits| Float32Array::from(&**logits));
            Ok(lists.collect::<Array>().into())
        })
    }

    /// The outputs of blocks: a list of `{data, dims}`, with the pictures as the first of its dimensions.
    pub fn features(&self, images: Vec<f32>, layers: Vec<u32>) -> Promise {
        self.state.answer(async move |state| {
            let layers: Vec<usize> = layers.into_iter().map(|layer| layer as usize).collect();
            let images = state.batch(images);
            let features = state.inner.engine().features(images, &layers).await?;
            let list = Array::new();
            for HostTensor { shape, values } in features {
                let object = Object::new();
                let dims: Array = shape
                    .iter()
                    .map(|&side| JsValue::from(side as u32))
                    .collect();
                set(&object, "dims", dims);
                set(&object, "data", Float32Array::from(values.as_slice()));
                list.push(&object);
            }
            Ok(list.into())
        })
    }

    /// The floating-point operations a second that the fastest products of large matrices reach here: `device::peak`.
    pub fn peak(&self) -> Promise {
        self.state.answer(async move |state| {
            let precision = state.inner.engine().precision();
            let seconds = || timer::now() / 1e3;
            let flops = peak::flops(&state.device.0, precision, &seconds).await?;
            Ok(flops.into())
        })
    }

    /// What a head reads of each picture, in 16-bit floats: `Uint16Array`s of `[tokens, channels]`.
    pub fn tokens(&self, images: Vec<f32>) -> Promise {
        self.state.answer(async move |state| {
            let images = state.batch(images);
            let [pictures, ..] = images.shape[..] else {
                return Ok(Array::new().into());
            };
            let tokens = state.inner.engine().probed(images).await?.values;
            let size = tokens.len() / pictures.max(1);
            let list = Array::new();
            for tokens in tokens.chunks(size.max(1)) {
                let halves = halves(tokens)?;
                list.push(&Uint16Array::from(halves.reinterpret_cast()).into());
            }
            Ok(list.into())
        })
    }

    /// Trains a head on what [`tokens`](Self::tokens) gave: its file, and a report as JSON.
    pub fn teach(&self, lesson: JsValue) -> Promise {
        let state = Rc::clone(&self.state);
        promise(async move {
            let lesson = Lesson::from_js(&lesson).map_err(|error| to_js(&error))?;
            lesson.train(state.inner.engine()).await
        })
    }

    /// The same trunk under a head that was taught.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if it is no head or a damaged one, [`ErrorKind::Integrity`](crate::ErrorKind::Integrity) if it was taught on another trunk.
    #[wasm_bindgen(js_name = withHead)]
    pub fn with_head(&self, file: &[u8]) -> Result<Self, JsValue> {
        ready()?;
        let State {
            inner,
            device,
            named,
            traffic,
            load_ms,
            warmup_ms,
            ..
        } = &*self.state;
        let with = || {
            let file = HeadFile::from_bytes(file)?;
            let inner = inner.with_head(&file)?;
            Ok((inner, file))
        };
        let (inner, file) = with().map_err(|error: Error| to_js(&error))?;
        let state = Rc::new(State {
            inner,
            device: Rc::clone(device),
            head: Some(file),
            named: named.clone(),
            traffic: *traffic,
            load_ms: *load_ms,
            warmup_ms: *warmup_ms,
        });
        Ok(Self { state })
    }

    /// The head that was taught in fewer numbers, as a file; nothing for another head, or one of too many classes.
    #[wasm_bindgen(js_name = compactHead)]
    pub fn compact_head(&self) -> Option<Vec<u8>> {
        self.state.head.as_ref()?.to_compact_bytes().ok()
    }

    /// What was loaded, and how long it took.
    pub fn info(&self) -> JsValue {
        let State {
            inner,
            device,
            named,
            traffic: (bytes_fetched, bytes_cached),
            load_ms,
            warmup_ms,
            ..
        } = &*self.state;
        let kernels = device.0.kernels();
        let (device, adapter) = backend::describe(&device.0);
        let info = Object::new();
        set(&info, "device", device);
        set(&info, "adapter", adapter);
        set(&info, "kernels", kernels);
        set(&info, "dtype", inner.engine().precision().name());
        set(&info, "blocks", inner.engine().blocks() as u32);
        set(&info, "bytesFetched", *bytes_fetched as f64);
        set(&info, "bytesCached", *bytes_cached as f64);
        set(&info, "loadMs", *load_ms);
        set(&info, "warmupMs", *warmup_ms);
        set(&info, "imgSize", inner.img_size() as u32);
        set(&info, "trunkSha256", inner.engine().trunk_sha256());
        if let Some(Trunk { name, arch, .. }) = named {
            // What a page has in memory has an address that is no server's.
            if !name.contains(".invalid/") {
                set(&info, "trunk", name);
            }
            if let Some(arch) = arch {
                set(&info, "trunkArch", arch);
            }
        }
        set(&info, "wasmBytes", wasm_bytes());
        set(
            &info,
            "deviceBytes",
            backend::bytes_taken(&self.state.device.0),
        );
        let engine = inner.engine();
        set(
            &info,
            "flops",
            cost::flops(engine.config(), engine.config().blocks_to_run()),
        );
        info.into()
    }

    /// The names of the classes, in the order of the logits.
    pub fn labels(&self) -> Vec<String> {
        self.state.inner.labels().names().to_vec()
    }

    /// Resolves with an error when the device is lost.
    pub fn lost(&self) -> Promise {
        // Not the whole state, which would keep the device open.
        let device = self.state.device.0.clone();
        promise(async move { Ok(to_js(&device.lost().await)) })
    }
}

impl State {
    /// What [`Classifier::prepare`] gave, as one batch.
    fn batch(&self, values: Vec<f32>) -> HostTensor {
        let size = self.inner.img_size();
        HostTensor {
            shape: vec![values.len() / (3 * size * size), 3, size, size],
            values,
        }
    }

    /// The logits of each picture of a batch.
    async fn logits(&self, images: Vec<f32>) -> Result<Vec<Box<[f32]>>> {
        let logits = self.inner.logits(self.batch(images)).await?;
        let classes = self.inner.labels().names().len().max(1);
        Ok(logits.chunks(classes).map(Box::from).collect())
    }

    /// Runs a question to the model; a device that is lost meanwhile ends it.
    fn answer<F>(self: &Rc<Self>, question: impl FnOnce(Rc<Self>) -> F + 'static) -> Promise
    where
        F: Future<Output = Result<JsValue>> + 'static,
    {
        let state = Rc::clone(self);
        promise(async move {
            let device = state.device.0.clone();
            device
                .unless_lost(question(state))
                .await
                .map_err(|error| to_js(&error))
        })
    }
}

async fn load(options: Options) -> Result<State> {
    let start = timer::now();
    let device = backend::open(options.allow_software).await?;
    let loaded = load_onto(device.clone(), options, start).await;
    if loaded.is_err() {
        // As in `Owned::drop`: what had arrived would stay on the GPU.
        device.destroy();
    }
    loaded
}

async fn load_onto(device: Device, options: Options, start: f64) -> Result<State> {
    let store = if options.cache {
        WebCache::open().await
    } else {
        None
    };
    let warn: Rc<dyn Fn(&str)> = Rc::new(warn);
    let is_kept = store.is_some();
    let store = store.map(|cache| Store::new(Rc::new(cache), Rc::clone(&warn)));
    let open_repository = |name: &str, revision: Option<&str>| {
        let (name, revision) = match name.rsplit_once('@') {
            Some((name, own)) if revision.is_none() && !name.contains("://") => (name, Some(own)),
            _ => (name, revision),
        };
        // By its name the model of the package, which the page brings.
        let name = match &options.embedded {
            Some(address) if name == EMBEDDED => address.as_str(),
            _ => name,
        };
        let fetch = Fetch::new(
            options.fetch.clone(),
            options.signal.clone(),
            options.timeouts,
            !is_kept,
        )
        .ok_or_else(|| {
            Error::unsupported("there is no fetch here; pass one as the option fetch")
        })?;
        let location = Location::new(name, revision, options.endpoint.as_deref())?;
        // A head may name a trunk on any server.
        let takes_token = location.takes_token(options.endpoint.as_deref());
        let token = options.token.clone().filter(|_| takes_token);
        let client = Client::new(fetch, location, token);
        let (store, warn) = (store.clone(), Rc::clone(&warn));
        Ok::<_, Error>(async move {
            Ok::<_, Error>(Repository::open(client, store).await?.warning(warn))
        })
    };

    let report = |event: Event| {
        if let Some(callback) = &options.on_progress {
            // What a callback throws is its page's affair.
            let _ = callback.call1(&JsValue::UNDEFINED, &event_to_js(&options.model, &event));
        }
    };
    let loading = async {
        let mut wanted = Wanted {
            // Beside a trunk it is the trunk's.
            arch: options.arch.filter(|_| options.trunk.is_none()),
            probe_layers: options.probe_layers.clone(),
            ..Wanted::default()
        };
        let mut head = options
            .head
            .as_deref()
            .map(HeadFile::from_bytes)
            .transpose()?;
        let (mut name, mut revision) = (options.model.clone(), options.revision.clone());
        let mut named = None;
        let mut model = loop {
            let repository = open_repository(&name, revision.as_deref())?.await?;
            let model = RemoteModel::open(repository, &wanted).await?;
            match model.head_alone().await? {
                None if options.trunk.is_some() && head.is_none() => {
                    return Err(Error::option(format!(
                        "the option trunk is for a head that lies alone, and this is a whole model: leave it out"
                    )));
                }
                None => break model,
                Some(_) if head.is_some() => {
                    return Err(Error::format(format!(
                        "{name}: is a head alone, and no trunk"
                    )));
                }
                // A head that lies alone names its trunk, which may lie elsewhere by now.
                Some(file) => {
                    let mut trunk = file.trunk.clone();
                    if let Some(other) = &options.trunk {
                        trunk.name.clone_from(other);
                    }
                    if let Some(arch) = options.arch {
                        trunk.arch = Some(arch.name().to_owned());
                    }
                    name.clone_from(&trunk.name);
                    revision = None;
                    wanted = Wanted {
                        arch: trunk.family()?,
                        ..Wanted::default()
                    };
                    named = Some(trunk);
                    head = Some(file);
                }
            }
        };
        if let Some(file) = &head {
            model.config = file.config_of_trunk(model.config, options.probe_layers.as_ref())?;
        }
        let repository = Rc::clone(model.repository());
        let labels = model.labels.clone();
        let blocks = model.config.blocks_to_run();
        let mut inner = Inner::new(
            engine::fetch(model, blocks, options.dtype, &device, &report).await?,
            labels,
        )?;
        if let Some(file) = &head {
            inner = inner.with_head(file)?;
        }
        Ok((inner, head, named, repository.traffic()))
    };
    let (inner, head, named, traffic) = device.unless_lost(loading).await?;
    let load_ms = timer::now() - start;

    let mut warmup_ms = 0.0;
    if options.warmup {
        report(whole(Status::Warmup));
        let start = timer::now();
        device.unless_lost(warm_up(&inner)).await?;
        warmup_ms = timer::now() - start;
    }
    report(whole(Status::Ready));
    Ok(State {
        inner,
        device: Rc::new(Owned(device)),
        head,
        named,
        traffic,
        load_ms,
        warmup_ms,
    })
}

/// Runs a grey picture, so that kernels are compiled before the first real one, and a device that can't
/// compute is found out.
async fn warm_up(inner: &Inner) -> Result<()> {
    let size = inner.img_size();
    let grey = HostTensor {
        shape: vec![1, 3, size, size],
        values: vec![0.0; 3 * size * size],
    };
    match inner.logits(grey).await {
        // The weights are finite, so it may be the driver, which says nothing about a kernel that it compiles
        // wrongly: the CPU will tell.
        Err(error) if cfg!(feature = "gpu") && error.kind() == ErrorKind::Format => Err(
            Error::device_lost("the model gives no finite numbers on this device; use the CPU"),
        ),
        result => result.map(drop),
    }
}

/// A warning for whoever looks at the console.
fn warn(message: &str) {
    let console = js_sys::Reflect::get(&js_sys::global(), &"console".into());
    let function = console
        .as_ref()
        .ok()
        .and_then(|console| js_sys::Reflect::get(console, &"warn".into()).ok())
        .and_then(|function| function.dyn_into::<js_sys::Function>().ok());
    if let Some(function) = function {
        let _ = function.call1(&JsValue::UNDEFINED, &format!("aim-web: {message}").into());
    }
}

/// An event that is about no file.
const fn whole(status: Status) -> Event {
    Event {
        status,
        file: None,
        loaded: 0,
        total: 0,
    }
}

/// The size of the instance's memory in bytes.
fn wasm_bytes() -> f64 {
    let memory: js_sys::WebAssembly::Memory = wasm_bindgen::memory().unchecked_into();
    let buffer: js_sys::ArrayBuffer = memory.buffer().unchecked_into();
    f64::from(buffer.byte_length())
}
