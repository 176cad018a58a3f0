//! Files that PyTorch wrote, in all the ways that it has (`pkg-scripts/torch-fixtures`), and their tensors as they
//! arrive in pieces.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use aim_web::weights::checkpoint::contents::{self, Access, Contents, Parts, Step};
use aim_web::weights::checkpoint::dtype::Dtype;
use aim_web::weights::checkpoint::tensor_info::TensorInfo;
use aim_web::weights::checkpoint::torch::write::{Entry, TorchWriter};
use aim_web::weights::inventory::{Located, Part};
use aim_web::weights::layout::{Role, TensorSpec};
use aim_web::weights::load::feed::Feed;
use aim_web::weights::load::sink::Sink;
use aim_web::weights::remote::plan;
use aim_web::weights::{open, open_reader};
use aim_web::{ErrorKind, Result};
use proptest::prelude::*;

/// The bytes of each tensor.
type Bytes = BTreeMap<String, Vec<u8>>;

fn fixtures() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir("tests/torch")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "bin"))
        .collect();
    files.sort();
    files
}

fn is_refused(path: &Path) -> bool {
    path.file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .starts_with("refused_")
}

/// Shape and values of each tensor.
type Floats = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Every float tensor of a file, through the reader of local files.
fn floats(path: &Path) -> Result<Floats> {
    let mut file = open(path)?;
    let infos = file.tensors().to_vec();
    infos
        .into_iter()
        .enumerate()
        .filter(|(_, info)| info.dtype.is_float())
        .map(|(index, info)| Ok((info.name, (info.shape, file.read_f32(index)?))))
        .collect()
}

#[test]
fn whatever_pytorch_writes_loads_as_from_safetensors() {
    let (mut read, mut refused) = (0, 0);
    for path in fixtures() {
        if is_refused(&path) {
            let error = open(&path).err().unwrap_or_else(|| panic!("{path:?}"));
            let kinds = [ErrorKind::Format, ErrorKind::Unsupported];
            assert!(kinds.contains(&error.kind()), "{error}");
            refused += 1;
            continue;
        }
        let own = path.with_extension("safetensors");
        let reference = if own.is_file() {
            own
        } else {
            path.with_file_name("reference.safetensors")
        };
        let (file, reference) = (floats(&path).unwrap(), floats(&reference).unwrap());
        assert!(file == reference, "{path:?}");
        read += 1;
    }
    assert_eq!((read, refused), (17, 5));
}

/// Keeps the bytes of tensors as they come.
#[derive(Default)]
struct Kept {
    open: Option<(String, Vec<u8>)>,
    ended: Bytes,
}

impl Sink for Kept {
    fn wants(&self, _: &TensorSpec) -> bool {
        true
    }

    fn begin(&mut self, located: Located, _: &TensorInfo) -> Result<()> {
        assert!(self.open.is_none(), "one after the other");
        self.open = Some((located.spec.name, Vec::new()));
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.open.as_mut().unwrap().1.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let (name, bytes) = self.open.take().unwrap();
        assert!(self.ended.insert(name, bytes).is_none());
        Ok(())
    }
}

/// What a file holds, from no more of its bytes than are asked for.
fn contents_of(bytes: &[u8]) -> Result<Contents> {
    let mut parts = Parts::new(bytes.len() as u64);
    loop {
        match contents::read(&parts, Access::Ranges)? {
            Step::Done(contents) => return Ok(contents),
            Step::Need(range) => {
                let part = &bytes[range.start as usize..range.end as usize];
                parts.insert(range.start, part.to_vec());
            }
        }
    }
}

/// Every tensor of a file, as it would come from a server, in pieces of `size` bytes.
fn streamed(bytes: &[u8], size: usize) -> Result<Bytes> {
    let contents = contents_of(bytes)?;
    let located = contents
        .tensors()
        .iter()
        .enumerate()
        .map(|(index, info)| Located {
            spec: TensorSpec {
                name: info.name.clone(),
                shape: info.shape.clone(),
                role: Role::Float,
                block: None,
            },
            part: Part::Whole,
            index,
        });
    let mut kept = Kept::default();
    for pass in plan::passes(&contents, located.collect()) {
        let mut feed = Feed::new(&contents, "x", &pass.tensors);
        let range = &bytes[pass.range.start as usize..pass.range.end as usize];
        for piece in range.chunks(size) {
            feed.push(piece, &mut kept)
                .map_err(|fault| fault.into_error())?;
        }
        feed.finish(&mut kept).map_err(|fault| fault.into_error())?;
    }
    Ok(kept.ended)
}

/// Every tensor of a file, through the reader of local files.
fn read(bytes: &[u8]) -> Result<Bytes> {
    let mut file = open_reader(Cursor::new(bytes.to_vec()), "x")?;
    let infos = file.tensors().to_vec();
    infos
        .into_iter()
        .enumerate()
        .map(|(index, info)| {
            let mut own = Vec::new();
            file.read(index, &mut |piece| {
                own.extend_from_slice(piece);
                Ok(())
            })?;
            Ok((info.name, own))
        })
        .collect()
}

#[test]
fn however_the_bytes_are_cut_the_tensors_are_the_same() {
    for path in fixtures() {
        let bytes = std::fs::read(&path).unwrap();
        if is_refused(&path) {
            assert!(contents_of(&bytes).is_err(), "{path:?}");
            continue;
        }
        let expected = read(&bytes).unwrap();
        for size in [1, 7, 64, 1000, bytes.len()] {
            assert!(
                streamed(&bytes, size).unwrap() == expected,
                "{path:?}, {size}"
            );
        }
    }
}

/// Where the bytes of a file that was opened were needed.
#[test]
fn a_large_archive_is_opened_by_its_ends() {
    // A sparse file would do, but zeros in memory are as good: the first tensor has 100 MB.
    let tensors = [
        Entry {
            name: "large",
            dtype: Dtype::F32,
            shape: &[5000, 5000],
        },
        Entry {
            name: "small",
            dtype: Dtype::F32,
            shape: &[2],
        },
    ];
    let mut bytes = Vec::new();
    let mut writer = TorchWriter::new(&mut bytes, "x", &tensors).unwrap();
    writer
        .storage(|file| (0..100).try_for_each(|_| file.write_all(&[0; 1_000_000])))
        .unwrap();
    writer.storage(|file| file.write_all(&[0; 8])).unwrap();
    writer.finish().unwrap();
    let contents = contents_of(&bytes).unwrap();
    let read: u64 = contents.front().iter().map(|r| r.end - r.start).sum();
    assert!(read < 80_000, "{read}");
    // What is read for a tensor begins at its header and ends before the next.
    let large = contents.range(0).unwrap();
    let small = contents.range(1).unwrap();
    assert_eq!(large.end, small.start);
    assert!(large.end - large.start < 100_000_200);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Tensors of any type and shape, written as `torch.save` does and streamed in pieces of any length.
    #[test]
    fn any_tensors_come_as_they_were(
        shapes in prop::collection::vec(prop::collection::vec(0..6_usize, 0..4), 1..8),
        types in prop::collection::vec(prop::sample::select(&[
            Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::F64, Dtype::I64, Dtype::I32, Dtype::I16, Dtype::I8, Dtype::U8, Dtype::Bool,
        ][..]), 8),
        size in 1..300_usize,
        flipped in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let names: Vec<String> = (0..shapes.len()).map(|i| format!("t{i}")).collect();
        let entries: Vec<Entry<'_>> = names
            .iter()
            .zip(&shapes)
            .zip(&types)
            .map(|((name, shape), dtype)| Entry { name, dtype: *dtype, shape })
            .collect();
        let mut bytes = Vec::new();
        let mut writer = TorchWriter::new(&mut bytes, "any", &entries).unwrap();
        let mut expected = Bytes::new();
        for (i, entry) in entries.iter().enumerate() {
            let len = entry.shape.iter().product::<usize>() * usize::from(entry.dtype.bits() / 8);
            let data: Vec<u8> = (0..len).map(|at| (at * 7 + i * 31) as u8).collect();
            writer.storage(|file| file.write_all(&data)).unwrap();
            expected.insert(entry.name.to_owned(), data);
        }
        writer.finish().unwrap();
        prop_assert!(read(&bytes).unwrap() == expected);
        prop_assert!(streamed(&bytes, size).unwrap() == expected);

        // One bit: refused, or of no tensor.
        if let Some(flipped) = flipped {
            let at = flipped.index(bytes.len());
            bytes[at] ^= 1;
            if let Ok(tensors) = streamed(&bytes, size) {
                // A name or a type may have become another one; the data are never other ones.
                let data: Vec<&Vec<u8>> = tensors.values().collect();
                prop_assert!(data.iter().all(|own| expected.values().any(|other| other == *own)));
            }
        }
    }
}

/// The same archive with every size and offset of its directory in ZIP64 fields, as those of a large file are.
fn with_long_fields(bytes: &[u8]) -> Vec<u8> {
    let at = |from: usize, len: usize| {
        let mut number = [0; 8];
        number[..len].copy_from_slice(&bytes[from..from + len]);
        u64::from_le_bytes(number) as usize
    };
    let end = bytes.len() - 22;
    let end_64 = at(end - 20 + 8, 8);
    let (size, start) = (at(end_64 + 40, 8), at(end_64 + 48, 8));
    let mut directory = Vec::new();
    let mut entry = start;
    while entry < start + size {
        let (name, extra) = (at(entry + 28, 2), at(entry + 30, 2));
        assert_eq!((extra, at(entry + 32, 2)), (0, 0));
        let mut fixed = bytes[entry..entry + 46].to_vec();
        for place in [20, 24, 42] {
            fixed[place..place + 4].copy_from_slice(&[0xff; 4]);
        }
        fixed[30..32].copy_from_slice(&28_u16.to_le_bytes());
        directory.extend(fixed);
        directory.extend(&bytes[entry + 46..entry + 46 + name]);
        directory.extend([1, 0, 24, 0]);
        for place in [24, 20, 42] {
            directory.extend((at(entry + place, 4) as u64).to_le_bytes());
        }
        entry += 46 + name;
    }
    let mut long = [&bytes[..start], &directory].concat();
    let mut record = bytes[end_64..end_64 + 56].to_vec();
    record[40..48].copy_from_slice(&(directory.len() as u64).to_le_bytes());
    let new_end_64 = long.len() as u64;
    long.extend(record);
    let mut locator = bytes[end - 20..end].to_vec();
    locator[8..16].copy_from_slice(&new_end_64.to_le_bytes());
    long.extend(locator);
    let mut last = bytes[end..].to_vec();
    last[8..20].copy_from_slice(&[0xff; 12]);
    long.extend(last);
    long
}

#[test]
fn the_fields_of_large_archives_are_read() {
    let bytes = std::fs::read("tests/torch/plain.bin").unwrap();
    let long = with_long_fields(&bytes);
    assert!(read(&long).unwrap() == read(&bytes).unwrap());
    assert!(streamed(&long, 100).unwrap() == read(&bytes).unwrap());
    // Each bit of the directory and what follows: an error, or the same tensors.
    let start = bytes.len() - 22 - 20 - 56;
    let expected: Vec<Vec<u8>> = read(&bytes).unwrap().into_values().collect();
    for at in (start..long.len()).step_by(3) {
        let mut flipped = long.clone();
        flipped[at] ^= 1 << (at % 8);
        if let Ok(tensors) = streamed(&flipped, 1000) {
            assert!(
                tensors.into_values().all(|own| expected.contains(&own)),
                "{at}"
            );
        }
    }
    // Without the record that has the numbers.
    let end_64 = long.len() - 22 - 20;
    let mut cut = long.clone();
    cut[end_64] = b'X';
    assert_eq!(read(&cut).unwrap_err().kind(), ErrorKind::Format);
}
