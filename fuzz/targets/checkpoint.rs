//! A valid checkpoint with one thing broken: the model that was written, or an error.
#![no_main]

use std::collections::BTreeMap;
use std::io::Cursor;

use aim_web::weights::checkpoint::dtype::Dtype;
use aim_web::weights::layout::{self, Role};
use aim_web::weights::load::load;
use aim_web::weights::load::sink::Sink as _;
use aim_web::weights::open_reader;
use aim_web_fuzz::error::checked;
use aim_web_fuzz::model::{self, Tensor, Values};
use aim_web_fuzz::server::{self, Server};
use aim_web_fuzz::sink::Kept;
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
enum Container {
    Safetensors,
    Torch,
    /// Two files and an index; where the second begins.
    Sharded(u8),
    TorchSharded(u8),
}

#[derive(Arbitrary, Debug)]
struct Case {
    container: Container,
    dtype: Float,
    seed: u8,
    /// Pairs of tensors that change places.
    order: [(u8, u8); 2],
    /// Of the two blocks that are there, this many are wanted.
    blocks: u8,
    fault: Fault,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Float {
    F16,
    Bf16,
    F32,
    F64,
}

/// What is broken, or only odd. Tensors are chosen by number.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Fault {
    None,
    /// All names behind `module.` or `_orig_mod.`, or both.
    Wrapped(u8),
    /// One name behind a wrapper's.
    HalfWrapped(u8, u8),
    Dropped(u8),
    /// The same tensor once more, perhaps in another file.
    Twice(u8),
    /// A tensor that is in no model.
    Extra(u8),
    /// A byte of a name is another.
    Renamed(u8, u8, u8),
    /// Another type; the values stay where it can have them.
    Dtype(u8, u8),
    Shape(u8, u8),
    /// Not a number or infinite.
    NotFinite(u8, u8, bool),
    Truncated(u16),
    Appended(u8),
    Flipped(u16, u8),
    /// The length of a safetensors header.
    HeaderLength(i8),
    /// What the index says of a tensor.
    Unindexed(u8),
    IndexedElsewhere(u8),
    IndexedTwice,
}

/// What has to become of it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Right,
    Refused,
    /// The right model or an error.
    Either,
    /// The bytes say another thing now, and nothing can know.
    Any,
}

/// A type of any element.
const DTYPES: [Dtype; 12] = [
    Dtype::F16,
    Dtype::Bf16,
    Dtype::F32,
    Dtype::F64,
    Dtype::I64,
    Dtype::I32,
    Dtype::U8,
    Dtype::Bool,
    Dtype::U16,
    Dtype::F8E4M3,
    Dtype::U64,
    Dtype::C64,
];

fuzz_target!(|case: Case| {
    let _watch = aim_web_fuzz::time::watch();
    let config = model::config_of_two_blocks();
    let specs = layout::tensors(&config);
    let dtype = match case.dtype {
        Float::F16 => Dtype::F16,
        Float::Bf16 => Dtype::Bf16,
        Float::F32 => Dtype::F32,
        Float::F64 => Dtype::F64,
    };
    let mut tensors = model::tensors(&config, dtype, case.seed.into());
    for (a, b) in case.order {
        let count = tensors.len();
        tensors.swap(usize::from(a) % count, usize::from(b) % count);
    }
    let mut kept = Kept::new(usize::from(case.blocks % 3));
    let expected: Values = specs
        .iter()
        .filter(|spec| kept.wants(spec))
        .map(|spec| {
            let own = tensors.iter().find(|tensor| tensor.info.name == spec.name);
            (spec.name.clone(), own.expect("all are there").values())
        })
        .collect();

    let is_sharded = matches!(
        case.container,
        Container::Sharded(_) | Container::TorchSharded(_)
    );
    let is_torch = matches!(
        case.container,
        Container::Torch | Container::TorchSharded(_)
    );
    let role = |name: &str| {
        let own = specs.iter().find(|spec| spec.name == name);
        own.map_or(Role::Unused, |spec| spec.role)
    };
    let mut outcome = break_tensors(case.fault, &mut tensors, &expected, &role);

    let at = match case.container {
        Container::Sharded(at) | Container::TorchSharded(at) => {
            1 + usize::from(at) % (tensors.len() - 1)
        }
        Container::Safetensors | Container::Torch => tensors.len(),
    };
    let names: &[&str] = match case.container {
        Container::Safetensors => &["model.safetensors"],
        Container::Torch => &["pytorch_model.bin"],
        Container::Sharded(_) => &[
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ],
        Container::TorchSharded(_) => &[
            "pytorch_model-00001-of-00002.bin",
            "pytorch_model-00002-of-00002.bin",
        ],
    };
    let (first, second) = tensors.split_at(at);
    let mut files = BTreeMap::from([("config.json".to_owned(), config.to_json().into_bytes())]);
    for (name, part) in names.iter().zip([first, second]) {
        let bytes = if is_torch {
            model::torch(part)
        } else {
            Some(model::safetensors(part))
        };
        // Torch has no such type.
        let Some(bytes) = bytes else { return };
        files.insert((*name).to_owned(), bytes);
    }
    if is_sharded {
        let mut places: Vec<(&str, &str)> = names
            .iter()
            .zip([first, second])
            .flat_map(|(file, part)| {
                part.iter()
                    .map(move |tensor| (tensor.info.name.as_str(), *file))
            })
            .collect();
        let count = places.len();
        match case.fault {
            Fault::Unindexed(nth) => {
                places.remove(usize::from(nth) % count);
                outcome = Outcome::Refused;
            }
            Fault::IndexedElsewhere(nth) => {
                let place = &mut places[usize::from(nth) % count];
                place.1 = if place.1 == names[0] {
                    names[1]
                } else {
                    names[0]
                };
                outcome = Outcome::Refused;
            }
            Fault::IndexedTwice => {
                places.push(("trunk.blocks.9.norm_1.weight", names[1]));
                outcome = Outcome::Refused;
            }
            _ => {}
        }
        let name = if is_torch {
            "pytorch_model.bin.index.json"
        } else {
            "model.safetensors.index.json"
        };
        files.insert(
            name.to_owned(),
            model::index(places.into_iter()).into_bytes(),
        );
    }
    let file = files.get_mut(names[0]).expect("it was written");
    if let Some(own) = break_bytes(case.fault, file, is_torch) {
        outcome = own;
    }
    // A file of which nothing is wanted is not touched: what the index says of it is all that counts.
    let is_idle = |part: &[Tensor]| {
        is_sharded
            && !part
                .iter()
                .any(|tensor| expected.contains_key(&tensor.info.name))
    };
    if outcome == Outcome::Refused && (is_idle(first) || is_idle(second)) {
        outcome = Outcome::Either;
    }

    if let [name] = names
        && let Some(file) = checked(open_reader(Cursor::new(files[*name].clone()), name))
    {
        let mut from_disk = Kept::new(usize::from(case.blocks % 3));
        let loaded = checked(load(&mut [file], &config, &mut from_disk)).is_some();
        judge(outcome, loaded, &from_disk.values, &expected);
    }
    let server = Server::new(files, Vec::new());
    let loaded = checked(server::load(
        &server,
        None,
        "https://example.org/model",
        &mut kept,
    ))
    .is_some();
    judge(outcome, loaded, &kept.values, &expected);
});

fn judge(outcome: Outcome, loaded: bool, values: &Values, expected: &Values) {
    match outcome {
        Outcome::Right => assert!(loaded, "it is refused"),
        Outcome::Refused => assert!(!loaded, "it is taken"),
        Outcome::Either | Outcome::Any => {}
    }
    if loaded && outcome != Outcome::Any {
        assert_eq!(values, expected);
    }
}

/// Breaks what a file says.
fn break_tensors(
    fault: Fault,
    tensors: &mut Vec<Tensor>,
    expected: &Values,
    role: &dyn Fn(&str) -> Role,
) -> Outcome {
    let count = tensors.len();
    let at = |nth: u8| usize::from(nth) % count;
    match fault {
        Fault::Wrapped(by) => {
            let wrapper = ["module.", "_orig_mod.", "module._orig_mod."][usize::from(by) % 3];
            for tensor in tensors {
                tensor.info.name.insert_str(0, wrapper);
            }
            Outcome::Right
        }
        Fault::HalfWrapped(nth, by) => {
            let wrapper = ["module.", "_orig_mod."][usize::from(by) % 2];
            tensors[at(nth)].info.name.insert_str(0, wrapper);
            // A shard of one tensor is wrapped as a whole.
            Outcome::Either
        }
        Fault::Dropped(nth) => {
            let gone = tensors.remove(at(nth));
            if role(&gone.info.name) == Role::Counter {
                Outcome::Right
            } else {
                Outcome::Refused
            }
        }
        Fault::Twice(nth) => {
            tensors.push(tensors[at(nth)].clone());
            Outcome::Either
        }
        Fault::Extra(nth) => {
            let mut extra = tensors[at(nth)].clone();
            extra.info.name.push_str(".extra");
            tensors.push(extra);
            Outcome::Refused
        }
        Fault::Renamed(nth, byte, by) => {
            let name = &mut tensors[at(nth)].info.name;
            let place = usize::from(byte) % name.len();
            let by = char::from(b' ' + by % 95).to_string();
            if name[place..=place] == by {
                return Outcome::Right;
            }
            name.replace_range(place..=place, &by);
            Outcome::Refused
        }
        Fault::Dtype(nth, by) => {
            let tensor = &mut tensors[at(nth)];
            let dtype = DTYPES[usize::from(by) % DTYPES.len()];
            let role = role(&tensor.info.name);
            if role == Role::Counter {
                tensor.info.dtype = dtype;
                tensor.bytes = vec![0; usize::from(dtype.bits() / 8)];
                return Outcome::Either;
            }
            *tensor = tensor.cast(dtype);
            if dtype.is_float() {
                Outcome::Right
            } else {
                Outcome::Refused
            }
        }
        Fault::Shape(nth, by) => {
            let shape = &mut tensors[at(nth)].info.shape;
            let before = shape.clone();
            match by % 4 {
                0 => shape.reverse(),
                1 => *shape = vec![shape.iter().product()],
                2 => shape.push(1),
                _ => shape.insert(0, 1),
            }
            if *shape == before {
                Outcome::Right
            } else {
                Outcome::Refused
            }
        }
        Fault::NotFinite(nth, place, is_nan) => {
            let Tensor { info, bytes } = &mut tensors[at(nth)];
            let value = if is_nan { f32::NAN } else { f32::INFINITY };
            let element: Vec<u8> = match info.dtype {
                Dtype::F16 => if is_nan { [0, 0x7e] } else { [0, 0x7c] }.to_vec(),
                Dtype::Bf16 => value.to_le_bytes()[2..].to_vec(),
                Dtype::F32 => value.to_le_bytes().to_vec(),
                Dtype::F64 => f64::from(value).to_le_bytes().to_vec(),
                _ => return Outcome::Right,
            };
            let elements = bytes.len() / element.len();
            let start = usize::from(place) % elements * element.len();
            bytes[start..start + element.len()].copy_from_slice(&element);
            if expected.contains_key(&info.name) {
                Outcome::Refused
            } else {
                Outcome::Right
            }
        }
        _ => Outcome::Right,
    }
}

/// Breaks the bytes of a file.
fn break_bytes(fault: Fault, file: &mut Vec<u8>, is_torch: bool) -> Option<Outcome> {
    let len = file.len();
    match fault {
        Fault::Truncated(by) => {
            file.truncate(len - 1 - usize::from(by) % len);
            Some(Outcome::Refused)
        }
        Fault::Appended(by) => {
            file.extend(vec![0; usize::from(by) + 1]);
            Some(Outcome::Refused)
        }
        Fault::Flipped(at, bit) => {
            let header = file.first_chunk().map_or(0, |n| u64::from_le_bytes(*n));
            let at = usize::from(at) % len;
            file[at] ^= 1 << (bit % 8);
            // Data of safetensors have no checksum.
            let is_data = !is_torch && at as u64 >= header + 8;
            Some(if is_data {
                Outcome::Any
            } else {
                Outcome::Either
            })
        }
        Fault::HeaderLength(by) if !is_torch => {
            let n = file.first_chunk().map_or(0, |n| u64::from_le_bytes(*n));
            let new = n.saturating_add_signed(by.into());
            file[..8].copy_from_slice(&new.to_le_bytes());
            Some(if new == n {
                Outcome::Right
            } else {
                Outcome::Refused
            })
        }
        _ => None,
    }
}
