//! A state dict as `torch.save` writes it, storage by storage.
//!
//! Sizes and checksums follow the data, as PyTorch's writer has it, so that nothing has to be known of
//! a storage before it is written. Source: `caffe2/serialize/inline_container.cc` of PyTorch.

use std::io::{self, Write};

use crc32fast::Hasher;

use crate::weights::checkpoint::dtype::Dtype;

/// Data begin at a multiple of this many bytes.
const ALIGNMENT: u64 = 64;

/// Sizes and checksums come after the data; names are UTF-8.
const FLAGS: u16 = 0x0808;

/// A tensor that is going to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its key in the state dict.
    pub name: &'a str,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: &'a [usize],
}

/// A file that is being written: after [`new`](Self::new) the data of each tensor, by
/// [`storage`](Self::storage), then [`finish`](Self::finish).
pub struct TorchWriter<W> {
    file: W,
    /// Bytes written.
    at: u64,
    root: String,
    records: Vec<Record>,
    storages: usize,
}

/// A record that was written.
struct Record {
    name: String,
    crc: u32,
    size: u64,
    start: u64,
}

impl<W: Write> TorchWriter<W> {
    /// Writes the pickle of a state dict; `root` is the archive's folder, by custom the file's name
    /// without its ending.
    ///
    /// # Errors
    /// What the writer returns, and an error for a type that has no storage class or a tensor of over 2^31 elements.
    pub fn new(file: W, root: &str, tensors: &[Entry<'_>]) -> io::Result<Self> {
        let mut this = Self {
            file,
            at: 0,
            root: root.to_owned(),
            records: Vec::new(),
            storages: 0,
        };
        let pickle = pickle(tensors)?;
        this.record("data.pkl", |file| file.write_all(&pickle))?;
        this.record("byteorder", |file| file.write_all(b"little"))?;
        Ok(this)
    }

    /// Writes the data of the next tensor: row-major, little-endian.
    ///
    /// # Errors
    /// What the writer and `write` return.
    pub fn storage(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let name = format!("data/{}", self.storages);
        self.storages += 1;
        self.record(&name, write)
    }

    /// Writes the version and the directory; the length of the file in bytes.
    ///
    /// # Errors
    /// What the writer returns.
    pub fn finish(mut self) -> io::Result<u64> {
        self.record("version", |file| file.write_all(b"3\n"))?;
        let start = self.at;
        let records = std::mem::take(&mut self.records);
        let count = records.len() as u64;
        for record in records {
            let Record {
                name,
                crc,
                size,
                start,
            } = record;
            let (short_size, short_start) = (short(size), short(start));
            let mut extra = Vec::new();
            for (short, long) in [(short_size, size), (short_size, size), (short_start, start)] {
                if short == u32::MAX {
                    extra.extend(long.to_le_bytes());
                }
            }
            let mut entry = b"PK\x01\x02".to_vec();
            entry.extend([0; 4]);
            entry.extend(FLAGS.to_le_bytes());
            entry.extend([0; 6]);
            entry.extend(crc.to_le_bytes());
            entry.extend(short_size.to_le_bytes());
            entry.extend(short_size.to_le_bytes());
            entry.extend(length(name.len())?.to_le_bytes());
            let fields = if extra.is_empty() { 0 } else { extra.len() + 4 };
            entry.extend(length(fields)?.to_le_bytes());
            entry.extend([0; 10]);
            entry.extend(short_start.to_le_bytes());
            entry.extend(name.as_bytes());
            if !extra.is_empty() {
                entry.extend(1_u16.to_le_bytes());
                entry.extend(length(extra.len())?.to_le_bytes());
                entry.extend(extra);
            }
            self.write(&entry)?;
        }
        let size = self.at - start;
        let end = self.at;
        let mut bytes = b"PK\x06\x06".to_vec();
        bytes.extend(44_u64.to_le_bytes());
        bytes.extend([0x1e, 3, 0x2d, 0]);
        bytes.extend([0; 8]);
        for number in [count, count, size, start] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(b"PK\x06\x07\0\0\0\0");
        bytes.extend(end.to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(b"PK\x05\x06\0\0\0\0");
        let short_count = u16::try_from(count).unwrap_or(u16::MAX);
        bytes.extend(short_count.to_le_bytes());
        bytes.extend(short_count.to_le_bytes());
        bytes.extend(short(size).to_le_bytes());
        bytes.extend(short(start).to_le_bytes());
        bytes.extend([0; 2]);
        self.write(&bytes)?;
        self.file.flush()?;
        Ok(self.at)
    }

    fn record(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let name = format!("{}/{name}", self.root);
        let start = self.at;
        // A field of padding, of four bytes at least, before the data.
        let before = start + 30 + name.len() as u64 + 4;
        let padding = before.next_multiple_of(ALIGNMENT) - before;
        let mut header = b"PK\x03\x04\0\0".to_vec();
        header.extend(FLAGS.to_le_bytes());
        header.extend([0; 18]);
        header.extend(length(name.len())?.to_le_bytes());
        header.extend((padding as u16 + 4).to_le_bytes());
        header.extend(name.as_bytes());
        header.extend(b"FB");
        header.extend((padding as u16).to_le_bytes());
        header.extend(std::iter::repeat_n(b'Z', padding as usize));
        self.write(&header)?;

        let mut data = Data {
            file: &mut self.file,
            hasher: Hasher::new(),
            size: 0,
        };
        write(&mut data)?;
        let (crc, size) = (data.hasher.finalize(), data.size);
        self.at += size;
        let mut after = b"PK\x07\x08".to_vec();
        after.extend(crc.to_le_bytes());
        for _ in 0..2 {
            if short(size) == u32::MAX {
                after.extend(size.to_le_bytes());
            } else {
                after.extend(short(size).to_le_bytes());
            }
        }
        self.write(&after)?;
        self.records.push(Record {
            name,
            crc,
            size,
            start,
        });
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

/// A number as the fields of 32 bits have it: all ones where it does not fit.
fn short(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn length(len: usize) -> io::Result<u16> {
    u16::try_from(len).map_err(|_| io::Error::other("a name is too long for an archive"))
}

/// Counts and sums what is written.
struct Data<'a, W> {
    file: &'a mut W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Data<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The pickle, protocol 2, of an ordered dict of tensors, each the whole of its own storage.
fn pickle(tensors: &[Entry<'_>]) -> io::Result<Vec<u8>> {
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    for (key, tensor) in tensors.iter().enumerate() {
        let too_large = || io::Error::other(format!("{} is too large", tensor.name));
        let class = storage_class(tensor.dtype)
            .ok_or_else(|| io::Error::other(format!("torch has no {}", tensor.dtype)))?;
        let numel = tensor
            .shape
            .iter()
            .try_fold(1_i32, |numel, &d| numel.checked_mul(i32::try_from(d).ok()?))
            .ok_or_else(too_large)?;
        text(&mut pickle, tensor.name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage");
        pickle.extend(format!("ctorch\n{class}\n").as_bytes());
        text(&mut pickle, &key.to_string());
        text(&mut pickle, "cpu");
        int(&mut pickle, numel);
        pickle.extend(b"tQK\0");
        let mut strides = vec![1_i32; tensor.shape.len()];
        for i in (1..strides.len()).rev() {
            // Within `numel`, but for a tensor without elements.
            let size = i32::try_from(tensor.shape[i]).map_err(|_| too_large())?;
            strides[i - 1] = strides[i].saturating_mul(size);
        }
        pickle.push(b'(');
        for &size in tensor.shape {
            int(&mut pickle, i32::try_from(size).map_err(|_| too_large())?);
        }
        pickle.extend(b"t(");
        for stride in strides {
            int(&mut pickle, stride);
        }
        pickle.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
    }
    pickle.extend(b"u.");
    Ok(pickle)
}

fn text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.as_bytes());
}

fn int(pickle: &mut Vec<u8>, number: i32) {
    pickle.push(b'J');
    pickle.extend(number.to_le_bytes());
}

/// What torch calls the storage of a type.
const fn storage_class(dtype: Dtype) -> Option<&'static str> {
    Some(match dtype {
        Dtype::F64 => "DoubleStorage",
        Dtype::F32 => "FloatStorage",
        Dtype::F16 => "HalfStorage",
        Dtype::Bf16 => "BFloat16Storage",
        Dtype::I64 => "LongStorage",
        Dtype::I32 => "IntStorage",
        Dtype::I16 => "ShortStorage",
        Dtype::I8 => "CharStorage",
        Dtype::U8 => "ByteStorage",
        Dtype::Bool => "BoolStorage",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::weights::checkpoint::open_reader;

    #[test]
    fn what_is_written_is_read() {
        let tensors = [
            Entry {
                name: "a.weight",
                dtype: Dtype::F32,
                shape: &[2, 3],
            },
            Entry {
                name: "steps",
                dtype: Dtype::I64,
                shape: &[],
            },
        ];
        let mut bytes = Vec::new();
        let mut writer = TorchWriter::new(&mut bytes, "model", &tensors).unwrap();
        let values: Vec<u8> = (0..6_u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
        writer.storage(|file| file.write_all(&values)).unwrap();
        writer
            .storage(|file| file.write_all(&7_i64.to_le_bytes()))
            .unwrap();
        let len = writer.finish().unwrap();
        assert_eq!(len, bytes.len() as u64);
        let mut file = open_reader(Cursor::new(bytes), "model.pth").unwrap();
        assert_eq!(file.read_f32(0).unwrap(), [0., 1., 2., 3., 4., 5.]);
        let mut steps = Vec::new();
        file.read(1, &mut |piece| {
            steps.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
        assert_eq!(steps, 7_i64.to_le_bytes());
    }
}
