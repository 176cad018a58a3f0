//! What the rows of a file of features are of: a Parquet file with their paths and classes.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use aim_web::{Error, ErrorKind, Result};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::files::Unfinished;

/// Its columns.
const SCHEMA: &str = "message metadata {
    required binary path (UTF8);
    optional binary label (UTF8);
    optional int32 class;
}";

/// The key of how many pictures could not be read.
const BROKEN: &str = "aim-bench.broken";

/// A row: a picture.
pub struct Row {
    pub path: String,
    /// The name of its class, and its number among the classes of the data.
    pub class: Option<(String, usize)>,
}

/// Writes the file, in one go.
///
/// # Errors
/// If it can't be written.
pub fn write(path: &Path, rows: &[Row], broken: u64) -> Result<()> {
    let error = |error: ParquetError| {
        Error::new(
            ErrorKind::Option,
            format!("{}: can't be written: {error}", path.display()),
        )
    };
    let unfinished = Unfinished::new(path)?;
    let schema = Arc::new(parse_message_type(SCHEMA).map_err(error)?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(Some(vec![KeyValue::new(
            BROKEN.to_owned(),
            broken.to_string(),
        )]))
        .build();
    let write = || -> Result<(), ParquetError> {
        let mut writer =
            SerializedFileWriter::new(unfinished.file(), schema, Arc::new(properties))?;
        let mut group = writer.next_row_group()?;
        let levels: Vec<i16> = rows
            .iter()
            .map(|row| i16::from(row.class.is_some()))
            .collect();
        let text = |text: &str| ByteArray::from(text);
        let paths: Vec<ByteArray> = rows.iter().map(|row| text(&row.path)).collect();
        let classes = || rows.iter().filter_map(|row| row.class.as_ref());
        let labels: Vec<ByteArray> = classes().map(|(label, _)| text(label)).collect();
        let numbers: Vec<i32> = classes()
            .map(|(_, number)| i32::try_from(*number).unwrap_or(i32::MAX))
            .collect();
        if let Some(mut column) = group.next_column()? {
            column
                .typed::<ByteArrayType>()
                .write_batch(&paths, None, None)?;
            column.close()?;
        }
        if let Some(mut column) = group.next_column()? {
            column
                .typed::<ByteArrayType>()
                .write_batch(&labels, Some(&levels), None)?;
            column.close()?;
        }
        if let Some(mut column) = group.next_column()? {
            column
                .typed::<Int32Type>()
                .write_batch(&numbers, Some(&levels), None)?;
            column.close()?;
        }
        group.close()?;
        writer.close()?;
        Ok(())
    };
    write().map_err(error)?;
    unfinished.finish()
}

/// How many rows a file has, and how many pictures are in none because they could not be read.
///
/// # Errors
/// Kind `Format` if it is not such a file.
pub fn read(path: &Path) -> Result<(u64, u64)> {
    let error = |reason: String| {
        Error::new(
            ErrorKind::Format,
            format!(
                "{}: {reason}: delete it to have it made again",
                path.display()
            ),
        )
    };
    let file = File::open(path).map_err(|reason| error(reason.to_string()))?;
    let reader = SerializedFileReader::new(file).map_err(|reason| error(reason.to_string()))?;
    let meta = reader.metadata().file_metadata();
    let rows = u64::try_from(meta.num_rows()).unwrap_or(0);
    let mut entries = meta.key_value_metadata().into_iter().flatten();
    let broken = entries
        .find(|entry| entry.key == BROKEN)
        .and_then(|entry| entry.value.as_deref()?.parse().ok())
        .ok_or_else(|| error("was not written by aim-bench".to_owned()))?;
    Ok((rows, broken))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_counted() {
        let work = tempfile::tempdir().unwrap();
        let path = work.path().join("metadata_0.parquet");
        let row = |path: &str, class: Option<(&str, usize)>| Row {
            path: path.to_owned(),
            class: class.map(|(label, number)| (label.to_owned(), number)),
        };
        for rows in [
            vec![],
            vec![row("a\n.jpg", Some(("дом", 3))), row("b", None)],
        ] {
            write(&path, &rows, 7).unwrap();
            assert_eq!(read(&path).unwrap(), (rows.len() as u64, 7));
        }
        std::fs::write(&path, b"PAR1 no PAR1").unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::Format);
    }
}
