//! The bytes of a checkpoint file, read in every way that there is.

use std::io::Cursor;

use aim_web::Result;
use aim_web::weights::checkpoint::contents::{self, Access, Contents, Parts, Step};
use aim_web::weights::inventory::Inventory;
use aim_web::weights::load::feed::{Fault, Feed};
use aim_web::weights::load::load;
use aim_web::weights::load::sink::Sink as _;
use aim_web::weights::open_reader;
use aim_web::weights::remote::plan;

use crate::error::{check, checked};
use crate::model;
use crate::sink::Kept;

/// The most bytes that are read of a file's tensors one by one: views of one storage may be many.
const MOST: u64 = 1 << 20;

/// Reads a file from a disk, and in pieces of some bytes as from a server, as tensors of any kind and as the model of
/// `tests/bad`.
///
/// # Panics
/// If the two differ.
pub fn run(bytes: &[u8], piece: usize) {
    let Some(mut file) = checked(open_reader(Cursor::new(bytes.to_vec()), "file")) else {
        let ranges = contents_of(bytes);
        assert!(
            ranges.is_err(),
            "what is no file on a disk is one on a server"
        );
        return;
    };
    let mut left = MOST;
    for index in 0..file.tensors().len() {
        let expected = file.tensors()[index].bytes();
        if expected > left {
            break;
        }
        left -= expected;
        let mut came = 0;
        let read = file.read(index, &mut |piece| {
            came += piece.len() as u64;
            Ok(())
        });
        if checked(read).is_some() {
            assert_eq!(came, expected);
        }
        let _ = checked(file.read_f32(index));
    }

    let mut from_disk = Kept::new(1);
    let config = model::config();
    let disk = load(&mut [file], &config, &mut from_disk);
    // What is compressed can't be read in parts.
    let Some(contents) = checked(contents_of(bytes)) else {
        return;
    };
    let mut from_server = Kept::new(1);
    let server = feed(bytes, &contents, piece, &mut from_server);
    assert_eq!(disk.is_ok(), server.is_ok(), "{disk:?} {server:?}");
    if checked(disk).is_some() {
        assert_eq!(from_disk.values, from_server.values);
    }
}

fn contents_of(bytes: &[u8]) -> Result<Contents> {
    let mut parts = Parts::new(bytes.len() as u64);
    loop {
        match contents::read(&parts, Access::Ranges)? {
            Step::Done(contents) => return Ok(contents),
            Step::Need(range) => {
                let bytes = &bytes[range.start as usize..range.end as usize];
                assert!(!bytes.is_empty());
                parts.insert(range.start, bytes.to_vec());
            }
        }
    }
}

fn feed(bytes: &[u8], contents: &Contents, piece: usize, sink: &mut Kept) -> Result<()> {
    let mut inventory = Inventory::new(&model::config());
    let mut needed = inventory.take("file", contents.tensors())?;
    inventory.finish()?;
    needed.retain(|located| sink.wants(&located.spec));
    for pass in plan::passes(contents, needed) {
        let mut feed = Feed::new(contents, "file", &pass.tensors);
        let bytes = &bytes[pass.range.start as usize..pass.range.end as usize];
        let fed = bytes
            .chunks(piece)
            .try_for_each(|piece| feed.push(piece, sink))
            .and_then(|()| feed.finish(sink));
        fed.map_err(Fault::into_error).inspect_err(check)?;
    }
    Ok(())
}
