//! Parquet files of the hub's picture data sets: a row a picture, its file's bytes in `image.bytes`, its class in `label`.
//!
//! The classes' names are in the metadata that the hub's library `datasets` writes; without it numbers are the model's
//! own.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aim_web::{Error, ErrorKind, Result};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use serde_json::Value;

use super::{Builder, Location, Split, no_split};

/// The column with the pictures.
const IMAGES: &str = "image.bytes";
/// The column with their classes.
const LABELS: &str = "label";

/// Rows that are read at a time.
const ROWS: usize = 32;
/// Readings that are kept: threads ask for rows nearly in order.
const KEPT: usize = 8;

/// The pictures of some files, in their order.
pub(super) fn open(files: &[PathBuf], builder: &mut Builder) -> Result<()> {
    let mut names: Option<Vec<String>> = None;
    let mut labels = Vec::new();
    for (nth, path) in files.iter().enumerate() {
        let file = builder.file(path)?;
        let listed = guarded(|| Listed::read(path)).map_err(|error| error.at(path.display()))?;
        if nth > 0 && names != listed.names {
            return Err(Error::new(
                ErrorKind::Format,
                format!(
                    "{}: its classes are not those of {}",
                    path.display(),
                    files.first().unwrap_or(path).display()
                ),
            ));
        }
        names = listed.names;
        for (group, rows) in listed.groups.into_iter().enumerate() {
            for (row, label) in rows.into_iter().enumerate() {
                labels.push((Location::Row { file, group, row }, label));
            }
        }
    }
    if let Some(names) = names {
        builder.classes(&names);
        for (location, label) in labels {
            let number = label.and_then(|label| label.parse().ok());
            let class = number.filter(|&number: &u32| (number as usize) < names.len());
            builder.add(location, class, 0);
        }
        return Ok(());
    }
    builder.are_numbers(labels.iter().filter_map(|(_, label)| label.as_deref()));
    for (location, label) in labels {
        let class = label.map(|name| builder.class(&name));
        builder.add(location, class, 0);
    }
    Ok(())
}

/// The files of a split.
///
/// # Errors
/// Kind `NotFound` if there is none.
pub(super) fn of_split(files: Vec<PathBuf>, split: Split<'_>, path: &Path) -> Result<Vec<PathBuf>> {
    let Split::Named(name) = split else {
        return Ok(files);
    };
    let mut there: Vec<String> = files.iter().map(|file| split_of(file)).collect();
    let own: Vec<PathBuf> = files
        .into_iter()
        .zip(&there)
        .filter(|(_, split)| *split == name)
        .map(|(file, _)| file)
        .collect();
    if own.is_empty() {
        there.sort();
        there.dedup();
        return Err(no_split(path, name, &there));
    }
    Ok(own)
}

/// The split that a file is of, as the hub names files: `train-00000-of-00002.parquet`, or `train/0000.parquet`.
fn split_of(file: &Path) -> String {
    let name = |part: Option<&OsStr>| super::text(part.unwrap_or_default().as_encoded_bytes());
    let stem = name(file.file_stem());
    let mut split = stem.as_str();
    loop {
        let (before, last) = split.rsplit_once(['-', '_', '.']).unwrap_or(("", split));
        let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number && (last != "of" || before.is_empty()) {
            break;
        }
        split = before;
    }
    if split.is_empty() {
        return name(file.parent().and_then(Path::file_name));
    }
    split.to_owned()
}

/// What a file holds.
struct Listed {
    /// The names of the classes by number.
    names: Option<Vec<String>>,
    /// For each group of rows the class of each row.
    groups: Vec<Vec<Option<String>>>,
}

impl Listed {
    fn read(path: &Path) -> Result<Self> {
        let file =
            File::open(path).map_err(|error| Error::new(ErrorKind::NotFound, error.to_string()))?;
        let reader = SerializedFileReader::new(file).map_err(|error| broken(&error))?;
        let images = column(&reader, IMAGES)?;
        let labels = column(&reader, LABELS)?;
        let count = reader.num_row_groups();
        let groups = (0..count)
            .map(|group| {
                let rows = reader
                    .get_row_group(group)
                    .map_err(|error| broken(&error))?;
                let count = usize::try_from(rows.metadata().num_rows()).unwrap_or(0);
                let (Some(_), Some(labels)) = (images, labels) else {
                    return Err(Error::new(
                        ErrorKind::Format,
                        format!(
                            "has no columns `{IMAGES}` and `{LABELS}`, but {}",
                            columns(&reader)
                        ),
                    ));
                };
                let column = rows
                    .get_column_reader(labels)
                    .map_err(|error| broken(&error))?;
                classes(column, count)
            })
            .collect::<Result<Vec<_>>>()?;
        let meta = reader.metadata().file_metadata();
        let entries = meta.key_value_metadata().into_iter().flatten();
        let names = entries
            .filter(|entry| entry.key == "huggingface")
            .find_map(|entry| class_names(entry.value.as_deref()?));
        Ok(Self { names, groups })
    }
}

/// The number of a column.
fn column(reader: &SerializedFileReader<File>, name: &str) -> Result<Option<usize>> {
    let schema = reader.metadata().file_metadata().schema_descr();
    let index = schema
        .columns()
        .iter()
        .position(|column| column.path().string() == name);
    // A list of pictures or classes is something else.
    if let Some(column) = index.map(|index| schema.column(index))
        && column.max_rep_level() > 0
    {
        return Err(Error::new(
            ErrorKind::Format,
            format!("its column `{name}` holds lists, not one a row"),
        ));
    }
    Ok(index)
}

fn columns(reader: &SerializedFileReader<File>) -> String {
    const MOST: usize = 12;
    let schema = reader.metadata().file_metadata().schema_descr();
    let names: Vec<String> = schema
        .columns()
        .iter()
        .take(MOST)
        .map(|column| format!("`{}`", aim_web::printable(&column.path().string())))
        .collect();
    names.join(", ")
}

/// The names of the classes in what `datasets` says of its columns.
fn class_names(text: &str) -> Option<Vec<String>> {
    let value: Value = serde_json::from_str(text).ok()?;
    let names = value.pointer("/info/features/label/names")?.as_array()?;
    names
        .iter()
        .map(|name| name.as_str().map(str::to_owned))
        .collect()
}

/// The classes of so many rows: numbers or names; `None` where there is none.
fn classes(column: ColumnReader, rows: usize) -> Result<Vec<Option<String>>> {
    match column {
        ColumnReader::Int64ColumnReader(mut column) => values(&mut column, rows, |n: i64| {
            // What `datasets` writes for an unknown class.
            (n >= 0).then(|| n.to_string())
        }),
        ColumnReader::Int32ColumnReader(mut column) => {
            values(&mut column, rows, |n: i32| (n >= 0).then(|| n.to_string()))
        }
        ColumnReader::ByteArrayColumnReader(mut column) => {
            values(&mut column, rows, |name: ByteArray| {
                Some(String::from_utf8_lossy(name.data()).into_owned())
            })
        }
        _ => Err(Error::new(
            ErrorKind::Format,
            format!("its column `{LABELS}` holds neither whole numbers nor names"),
        )),
    }
}

/// All values of a column, as many as rows; `None` where there is none.
fn values<T: DataType, V>(
    column: &mut ColumnReaderImpl<T>,
    rows: usize,
    value: impl Fn(T::T) -> Option<V>,
) -> Result<Vec<Option<V>>> {
    let all = up_to(rows, column, value)?;
    if all.len() == rows {
        return Ok(all);
    }
    Err(Error::new(
        ErrorKind::Format,
        "has fewer rows than it says: it is damaged",
    ))
}

/// The next values of a column, fewer where it ends.
fn up_to<T: DataType, V>(
    rows: usize,
    column: &mut ColumnReaderImpl<T>,
    value: impl Fn(T::T) -> Option<V>,
) -> Result<Vec<Option<V>>> {
    let mut all = Vec::new();
    while all.len() < rows {
        let (mut levels, mut present) = (Vec::new(), Vec::new());
        let (records, _, _) = column
            .read_records(rows - all.len(), Some(&mut levels), None, &mut present)
            .map_err(|error| broken(&error))?;
        if records == 0 {
            break;
        }
        // Where every row must have a value there are no levels.
        if levels.is_empty() {
            all.extend(present.into_iter().map(&value));
            continue;
        }
        let full = max_level(&levels, present.len());
        let mut present = present.into_iter();
        for level in levels {
            let here = if level == full { present.next() } else { None };
            all.push(here.and_then(&value));
        }
    }
    Ok(all)
}

/// The level of the rows that have a value.
fn max_level(levels: &[i16], present: usize) -> i16 {
    let most = levels.iter().copied().max().unwrap_or(0);
    if present == 0 {
        most.saturating_add(1)
    } else {
        most
    }
}

/// The files of a data set as they are being read: one at a time, in order.
#[derive(Default)]
pub(super) struct Rows(Mutex<Option<Stream>>);

struct Stream {
    file: usize,
    group: usize,
    /// The next row that the column gives.
    next: usize,
    column: ColumnReaderImpl<ByteArrayType>,
    /// Rows that were read: the first one's number, and their bytes.
    kept: VecDeque<(usize, Vec<Option<ByteArray>>)>,
}

impl Rows {
    /// The bytes of a picture.
    pub(super) fn read(&self, path: &Path, [file, group, row]: [usize; 3]) -> Result<ByteArray> {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = guarded(|| Self::of(&mut stream, path, [file, group, row]));
        if bytes.is_err() {
            *stream = None;
        }
        bytes?.ok_or_else(|| Error::new(ErrorKind::Image, "the row has no picture"))
    }

    fn of(
        stream: &mut Option<Stream>,
        path: &Path,
        [file, group, row]: [usize; 3],
    ) -> Result<Option<ByteArray>> {
        let is_before = |stream: &Stream| {
            let first = stream.kept.front().map_or(stream.next, |(first, _)| *first);
            row < first
        };
        let stream = match stream {
            Some(open) if open.file == file && open.group == group && !is_before(open) => open,
            closed => closed.insert(Stream::open(path, file, group, row)?),
        };
        while stream.next <= row {
            let rows = up_to(ROWS, &mut stream.column, Some)?;
            if rows.is_empty() {
                return Err(Error::new(
                    ErrorKind::Format,
                    "the file has fewer rows than it says: it is damaged",
                ));
            }
            let first = stream.next;
            stream.next += rows.len();
            stream.kept.push_back((first, rows));
            if stream.kept.len() > KEPT {
                stream.kept.pop_front();
            }
        }
        let found = stream
            .kept
            .iter()
            .find_map(|(first, rows)| rows.get(row.checked_sub(*first)?));
        Ok(found.cloned().flatten())
    }
}

impl Stream {
    /// The pictures of a group from a row on.
    fn open(path: &Path, file: usize, group: usize, row: usize) -> Result<Self> {
        let opened =
            File::open(path).map_err(|error| Error::new(ErrorKind::NotFound, error.to_string()))?;
        let reader = SerializedFileReader::new(opened).map_err(|error| broken(&error))?;
        let missing = || {
            Error::new(
                ErrorKind::Format,
                format!("has no column `{IMAGES}` of bytes"),
            )
        };
        let images = column(&reader, IMAGES)?.ok_or_else(missing)?;
        let rows = reader
            .get_row_group(group)
            .map_err(|error| broken(&error))?;
        let column = rows
            .get_column_reader(images)
            .map_err(|error| broken(&error))?;
        let ColumnReader::ByteArrayColumnReader(mut column) = column else {
            return Err(missing());
        };
        // Where others begin too, so that they need not open it again.
        let next = row - row % ROWS;
        column.skip_records(next).map_err(|error| broken(&error))?;
        Ok(Self {
            file,
            group,
            next,
            column,
            kept: VecDeque::new(),
        })
    }
}

/// What a decoder does not expect ends in an error, too.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Format,
            "its decoder stopped: it is damaged",
        ))
    })
}

fn broken(error: &ParquetError) -> Error {
    Error::new(
        ErrorKind::Format,
        format!("is no Parquet file, or a broken one: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_of_the_split_that_the_hub_names_them_by() {
        for (file, split) in [
            ("data/train-00000-of-00002.parquet", "train"),
            ("default/test/0000.parquet", "test"),
            ("validation.parquet", "validation"),
            ("train_extra-3.parquet", "train_extra"),
            ("of.parquet", "of"),
            ("7.parquet", ""),
        ] {
            assert_eq!(split_of(Path::new(file)), split, "{file}");
        }
    }
}
