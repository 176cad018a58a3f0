//! Hostile and unusual `.pth` files, made here opcode by opcode.

use std::io::{Cursor, Read, Write};
use std::time::{Duration, Instant};

use crate::{GOOD_PTH, read};
use aim_web::weights::checkpoint::dtype::Dtype;
use aim_web::weights::checkpoint::{Checkpoint, PIECE};
use aim_web::weights::open_reader;
use aim_web::{Error, ErrorKind};
use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

// Pickles.

fn string(text: &str) -> Vec<u8> {
    let len = u32::try_from(text.len()).unwrap();
    [b"X", &len.to_le_bytes()[..], text.as_bytes()].concat()
}

/// LONG1 of any 64-bit integer.
fn int(n: i64) -> Vec<u8> {
    [&[0x8a, 8], &n.to_le_bytes()[..]].concat()
}

fn ints(ns: &[i64]) -> Vec<u8> {
    let items: Vec<u8> = ns.iter().flat_map(|n| int(*n)).collect();
    [b"(", &items[..], b"t"].concat()
}

fn storage(class: &str, key: &str, numel: i64) -> Vec<u8> {
    let class = format!("ctorch\n{class}\n");
    [
        b"(",
        &string("storage")[..],
        class.as_bytes(),
        &string(key),
        &string("cuda:0"),
        &int(numel),
        b"tQ",
    ]
    .concat()
}

fn rebuild(storage: &[u8], offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n(",
        storage,
        &int(offset),
        &ints(shape),
        &ints(strides),
        b"\x89ccollections\nOrderedDict\n)RtR",
    ]
    .concat()
}

/// A pickled dict of values that are opcodes already.
fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut pickle = b"\x80\x02}(".to_vec();
    for (key, value) in items {
        pickle.extend(string(key));
        pickle.extend(value);
    }
    pickle.extend(b"u.");
    pickle
}

// Archives.

type Record<'a> = (&'a str, &'a [u8], CompressionMethod);

fn archive(records: &[Record<'_>]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, data, method) in records {
        let options = SimpleFileOptions::default().compression_method(*method);
        zip.start_file(*name, options).unwrap();
        zip.write_all(data).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// An archive of a pickle and storage `0`.
fn pth(pickle: &[u8], data: &[u8]) -> Vec<u8> {
    archive(&[
        ("a/data.pkl", pickle, CompressionMethod::Stored),
        ("a/byteorder", b"little", CompressionMethod::Stored),
        ("a/data/0", data, CompressionMethod::Stored),
    ])
}

fn open(bytes: Vec<u8>) -> Result<Box<dyn Checkpoint>, Error> {
    open_reader(Cursor::new(bytes), "x.pth")
}

/// Opens and reads everything.
fn load(bytes: Vec<u8>) -> Result<Vec<Vec<f32>>, Error> {
    let mut checkpoint = open(bytes)?;
    (0..checkpoint.tensors().len())
        .map(|index| checkpoint.read_f32(index))
        .collect()
}

/// Loading fails, fast, in one line, with this cause.
#[track_caller]
fn refused(bytes: Vec<u8>, kind: ErrorKind, cause: &str) {
    let start = Instant::now();
    let Err(error) = load(bytes) else {
        panic!("{cause}: was read");
    };
    let message = error.to_string();
    assert!(message.starts_with("x.pth: "), "{message}");
    assert!(message.contains(cause), "{message}");
    assert!(!message.contains('\n') && message.len() < 600, "{message}");
    assert_eq!(error.kind(), kind, "{message}");
    assert!(start.elapsed() < Duration::from_secs(2), "{message}");
}

#[track_caller]
fn refused_pickle(body: &[u8], kind: ErrorKind, cause: &str) {
    let pickle = [b"\x80\x02", body].concat();
    refused(pth(&pickle, &[0; 16]), kind, cause);
}

/// The little-endian bytes of 0, 1, 2, ...
fn count(n: u16) -> Vec<u8> {
    (0..n).flat_map(|i| f32::from(i).to_le_bytes()).collect()
}

fn one(value: Vec<u8>) -> Vec<u8> {
    dict(&[("w", value)])
}

fn float(numel: i64) -> Vec<u8> {
    storage("FloatStorage", "0", numel)
}

#[test]
fn views_share_a_storage() {
    let s = float(12);
    let pickle = dict(&[
        ("tail", rebuild(&s, 8, &[2, 2], &[2, 1])),
        ("transposed", rebuild(&s, 0, &[4, 3], &[1, 4])),
        ("whole", rebuild(&s, 0, &[3, 4], &[4, 1])),
        ("column", rebuild(&s, 1, &[3], &[4])),
        ("spread", rebuild(&s, 5, &[2, 3], &[0, 0])),
        ("one", rebuild(&s, 11, &[1, 1], &[i64::MAX, 77])),
        ("scalar", rebuild(&s, 3, &[], &[])),
        ("none", rebuild(&s, 0, &[0, 5], &[5, 1])),
    ]);
    let file = pth(&pickle, &count(12));
    let mut checkpoint = open(file.clone()).unwrap();
    let names: Vec<_> = checkpoint
        .tensors()
        .iter()
        .map(|t| t.name.clone())
        .collect();
    assert_eq!(names[..3], ["tail", "transposed", "whole"]);
    assert_eq!(checkpoint.tensors()[1].shape, [4, 3]);
    let expected: [&[f32]; 8] = [
        &[8., 9., 10., 11.],
        &[0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.],
        &[0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11.],
        &[1., 5., 9.],
        &[5.; 6],
        &[11.],
        &[3.],
        &[],
    ];
    // Twice: after the first time the checksum is known and views are sought.
    for _ in 0..2 {
        for (index, expected) in expected.iter().enumerate() {
            assert_eq!(checkpoint.read_f32(index).unwrap(), *expected, "{index}");
        }
    }
}

#[test]
fn every_storage_class() {
    for (class, dtype, size) in [
        ("DoubleStorage", Dtype::F64, 8),
        ("FloatStorage", Dtype::F32, 4),
        ("HalfStorage", Dtype::F16, 2),
        ("BFloat16Storage", Dtype::Bf16, 2),
        ("LongStorage", Dtype::I64, 8),
        ("IntStorage", Dtype::I32, 4),
        ("ShortStorage", Dtype::I16, 2),
        ("CharStorage", Dtype::I8, 1),
        ("ByteStorage", Dtype::U8, 1),
        ("BoolStorage", Dtype::Bool, 1),
    ] {
        let bytes: Vec<u8> = (0..size * 3).collect();
        let value = rebuild(&storage(class, "0", 3), 0, &[3], &[1]);
        let mut checkpoint = open(pth(&one(value), &bytes)).unwrap();
        assert_eq!(checkpoint.tensors()[0].dtype, dtype);
        let mut read = Vec::new();
        checkpoint
            .read(0, &mut |piece| {
                read.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
        assert_eq!(read, bytes);
        // The same elements under another size.
        let value = rebuild(&storage(class, "0", 4), 0, &[3], &[1]);
        refused(pth(&one(value), &bytes), ErrorKind::Format, "data/0 holds");
    }
}

#[test]
fn large_tensors_arrive_in_pieces() {
    let numel = (PIECE / 4 + 3) as i64;
    let data: Vec<u8> = (0..numel).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let pickle = dict(&[
        ("w", rebuild(&float(numel), 0, &[numel], &[1])),
        ("t", rebuild(&float(numel), 0, &[2, numel / 2], &[1, 2])),
    ]);
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let file = archive(&[
            ("a/data.pkl", &pickle, CompressionMethod::Deflated),
            ("a/data/0", &data, method),
        ]);
        let mut checkpoint = open(file).unwrap();
        for index in 0..2 {
            let mut lengths = Vec::new();
            checkpoint
                .read(index, &mut |piece| {
                    lengths.push(piece.len());
                    Ok(())
                })
                .unwrap();
            assert!(lengths.iter().all(|n| (1..=PIECE).contains(n)));
            let numel: usize = checkpoint.tensors()[index].shape.iter().product();
            assert_eq!(lengths.iter().sum::<usize>(), 4 * numel);
        }
        assert_eq!(
            checkpoint.read_f32(0).unwrap().last(),
            Some(&(numel as f32 - 1.))
        );
        assert_eq!(checkpoint.read_f32(1).unwrap()[..3], [0., 2., 4.]);
    }
}

#[test]
fn an_error_of_the_sink_comes_back_as_it_is() {
    let file = pth(&one(rebuild(&float(4), 0, &[2, 2], &[1, 2])), &count(4));
    let error = open(file)
        .unwrap()
        .read(0, &mut |_| Err(Error::new(ErrorKind::Disposed, "enough")))
        .unwrap_err();
    assert_eq!(error.to_string(), "enough");
}

#[test]
fn numbers_that_make_no_tensor() {
    let odd = |offset, shape: &[i64], strides: &[i64], cause| {
        let value = rebuild(&float(4), offset, shape, strides);
        refused(pth(&one(value), &count(4)), ErrorKind::Format, cause);
    };
    odd(-1, &[4], &[1], "negative offset");
    odd(
        1,
        &[4],
        &[1],
        "tensor w: shape [4], strides [1] and offset 1 reach past",
    );
    odd(i64::MAX, &[4], &[1], "reach past");
    odd(0, &[-4], &[1], "shape holds -4");
    odd(0, &[4], &[-1], "stride holds -1");
    odd(3, &[4], &[-1], "stride holds -1");
    odd(0, &[2, 2], &[1], "2 dimensions has 1 strides");
    odd(0, &[2, 2], &[i64::MAX, i64::MAX], "reach past");
    odd(0, &[2, 2, 2], &[1 << 62, 1 << 62, 1 << 62], "reach past");
    odd(0, &[1 << 32, 1 << 32], &[0, 0], "impossible size");
    odd(0, &[1 << 62], &[0], "impossible size");
    odd(0, &[1 << 62, 1 << 62, 0], &[1, 1, 1], "impossible size");
    odd(0, &[2; 65], &[0; 65], "65 dimensions");
    let value = rebuild(&float(-4), 0, &[4], &[1]);
    refused(
        pth(&one(value), &count(4)),
        ErrorKind::Format,
        "-4 elements",
    );
    let value = rebuild(&float(i64::MAX), 0, &[4], &[1]);
    refused(
        pth(&one(value), &count(4)),
        ErrorKind::Format,
        "data/0 holds 16 bytes",
    );
    let value = rebuild(&float(4), 0, &[1 << 40], &[0]);
    refused(
        pth(&one(value), &count(4)),
        ErrorKind::Unsupported,
        ".contiguous()",
    );
}

#[test]
fn one_storage_has_one_type() {
    let pickle = dict(&[
        ("a", rebuild(&float(4), 0, &[4], &[1])),
        ("b", rebuild(&storage("IntStorage", "0", 4), 0, &[4], &[1])),
    ]);
    refused(
        pth(&pickle, &count(4)),
        ErrorKind::Format,
        "tensor b: storage 0 is both 4 F32 and 4 I32",
    );
}

#[test]
fn storages_that_are_not_there() {
    for key in ["1", "../data.pkl", "/etc/passwd", "", "0/", "..\\0", "a\nb"] {
        let value = rebuild(&storage("FloatStorage", key, 4), 0, &[4], &[1]);
        refused(pth(&one(value), &count(4)), ErrorKind::Format, "is missing");
    }
    let value = rebuild(&storage("FloatStorage", &"9".repeat(70), 4), 0, &[4], &[1]);
    refused(
        pth(&one(value), &count(4)),
        ErrorKind::Format,
        "key has 70 bytes",
    );
}

#[test]
fn nothing_is_called() {
    use ErrorKind::{Format, Unsupported};
    let call = |body: &[u8], name: &str| {
        refused_pickle(body, Unsupported, &format!("refused to call {name}"));
    };
    call(b"cposix\nsystem\nX\x01\0\0\0x\x85R.", "posix.system");
    call(b"cos\nsystem\n.", "os.system");
    call(b"c__builtin__\neval\n.", "__builtin__.eval");
    call(
        b"cnumpy.core.multiarray\n_reconstruct\n.",
        "numpy.core.multiarray._reconstruct",
    );
    call(b"\x8c\x02os\x8c\x06system\x93.", "os.system");
    // Inside the arguments of an allowed call.
    call(
        b"ctorch._utils\n_rebuild_parameter\n(cos\nsystem\n)R\x88NtR.",
        "os.system",
    );
    // Only a newline ends a name; nothing is trimmed.
    call(
        b"ccollections\r\nOrderedDict\n.",
        "collections\\u{d}.OrderedDict",
    );
    call(b"ccollections\n OrderedDict\n.", "collections. OrderedDict");
    call(
        b"ccollections\nOrderedDict\0\n.",
        "collections.OrderedDict\\u{0}",
    );
    call(
        b"ctorch\n_utils._rebuild_tensor_v2\n.",
        "torch._utils._rebuild_tensor_v2",
    );
    call(
        b"\x8c\x0dcollections\nx\x8c\x0bOrderedDict\x93.",
        "collections\\u{a}x.OrderedDict",
    );
    call(
        b"\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.",
        "collections.OrderedDict.__init__",
    );
    call(
        b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
        "torch._utils._rebuild_tensor_v2.__globals__",
    );
    call(b"ctorch\nUntypedStorage\n.", "torch.UntypedStorage");
    call(b"c\xff\xfe\nx\n.", "\u{fffd}\u{fffd}.x");
    let long = [b"c", "é".repeat(3000).as_bytes(), b"\nx\n."].concat();
    call(&long, "éé");
    // INST says what it calls; the others take it from the stack or a registry.
    call(b"(X\x01\0\0\0xios\nsystem\n.", "os.system");
    refused_pickle(b"(ccollections\nOrderedDict\no.", Unsupported, "by OBJ");
    refused_pickle(
        b"ccollections\nOrderedDict\n)\x81.",
        Unsupported,
        "by NEWOBJ",
    );
    refused_pickle(
        b"ccollections\nOrderedDict\n)}\x92.",
        Unsupported,
        "by NEWOBJ_EX",
    );
    for opcode in 0x82..=0x84 {
        refused_pickle(&[opcode, 1, 0, 0, 0, b'.'], Unsupported, "by an EXT code");
    }
    // Storage classes and half-made tensors can't be called either.
    refused_pickle(b"ctorch\nFloatStorage\n)R.", Format, "bare storage");
    refused_pickle(
        b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
        Format,
        "arguments",
    );
    refused_pickle(
        b"ctorch._utils\n_rebuild_parameter\n(NNNtR.",
        Format,
        "parameter",
    );
    refused_pickle(b"ccollections\nOrderedDict\nN\x85R.", Format, "odd");
    refused_pickle(b"X\x09\0\0\0os.system)R.", Format, "calls a string");
    refused_pickle(b"}}b.", Unsupported, "sets attributes of a dict");
    refused_pickle(
        b"ctorch._utils\n_rebuild_tensor_v2\n}b.",
        Unsupported,
        "sets attributes of a class",
    );
}

#[test]
fn pickles_that_break_the_rules() {
    let broken = |body: &[u8], cause: &str| refused_pickle(body, ErrorKind::Format, cause);
    broken(b"", "ends early");
    broken(b".", "stack is empty");
    broken(b"}", "ends early");
    broken(b"}.x", "1 bytes follow");
    broken(b"}}.", "values are left");
    broken(b"}(.", "stack is empty");
    broken(b"(}.", "values are left");
    broken(b"X\xff\xff\xff\xff", "ends early");
    broken(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "ends early");
    broken(b"\x8c\x02\xff\xfe.", "UTF-8");
    broken(b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.", "frame");
    broken(b"\x8a\xff\x01.", "ends early");
    broken(
        &[&[0x8a, 9][..], &[1; 9], b"."].concat(),
        "integer of 9 bytes",
    );
    broken(b"h\x07.", "memo slot 7");
    broken(b"j\xff\xff\xff\xff.", "memo slot 4294967295");
    broken(b"}r\xff\xff\xff\xff.", "memo slot 4294967295");
    broken(b"q\0.", "stack is empty");
    broken(b"u.", "mark is missing");
    broken(b"}(Nu.", "key without a value");
    broken(b"]NNs.", "sets items of a list");
    broken(b"}Na.", "appends to a dict");
    broken(b"N(s.", "stack is empty");
    broken(b"N(\x85t.", "stack is empty");
    broken(b"NNNtR.", "mark is missing");
    broken(b"NR.", "stack is empty");
    broken(b"NQ.", "persistent id");
    broken(b"cnewline", "within a name");
    broken(b"N\x93.", "stack is empty");
    broken(b"NN\x93.", "STACK_GLOBAL");
    broken(b"}K\x01NstQ.", "mark is missing");
    // A dict that holds itself, as its own state dict.
    let own = [b"}q\0", &string("state_dict")[..], b"h\0s."].concat();
    broken(&own, "state_dict is a dict, not a tensor");
    broken(b"}K\x01K\x02s.", "key of the state dict is an int");
    broken(b"].", "holds a list");
    broken(b"}.", "empty dict");
    // A call by an unknown opcode of text pickles.
    refused_pickle(b"I01\n.", ErrorKind::Unsupported, "opcode 0x49");
    refused(
        pth(b"\x80\x00}.", b""),
        ErrorKind::Unsupported,
        "protocol 0",
    );
    refused(pth(b"(dp0\n.", b""), ErrorKind::Format, "protocol");
    refused(pth(b"", b""), ErrorKind::Format, "ends early");
}

#[test]
fn a_pickle_makes_a_bounded_number_of_values() {
    let most = 4 << 20;
    for opcode in [b'N', b'(', b'}', b']', b')'] {
        refused_pickle(&vec![opcode; most - 2], ErrorKind::Format, "more than");
    }
    refused_pickle(&vec![b'N'; most - 1], ErrorKind::Format, "over the limit");
    // One list, copied again and again.
    let mut body = b"](".to_vec();
    body.extend(b"NN\x86".repeat(20_000));
    body.extend(b"eq\0ccollections\nOrderedDict\nq\x010");
    body.truncate(body.len() - 1);
    body.extend(b"h\x01h\0\x85R".repeat(100_000));
    refused_pickle(&body, ErrorKind::Format, "more than");
    // Tuples of 64 sizes, named again and again.
    let shape = ints(&[1; 64]);
    let mut body = [b"(", &shape[..], b"q\0", &float(4), b"q\x01"].concat();
    body.extend(b"ctorch._utils\n_rebuild_tensor_v2\nq\x02");
    body.extend(b"h\x02(h\x01K\0h\0h\0NNtR".repeat(100_000));
    refused_pickle(&body, ErrorKind::Format, "more than");
    // Deep nesting, all kinds of it.
    for nest in [&b"\x85"[..], b"]q\0", b"N\x86"] {
        let body = [b")", &nest.repeat(80_000)[..], b"."].concat();
        assert!(load(pth(&[b"\x80\x02", &body[..]].concat(), b"")).is_err());
    }
}

#[test]
fn state_dicts_in_other_dicts() {
    let tensor = rebuild(&float(4), 0, &[4], &[1]);
    let inner = dict(&[("w", tensor.clone())]);
    let inner = inner[2..inner.len() - 1].to_vec();
    let accuracy = rebuild(&float(4), 1, &[], &[]);
    for key in ["state_dict", "model_state_dict", "model"] {
        // What PyTorch's own examples keep beside it may be a tensor too.
        for beside in [b"N".to_vec(), accuracy.clone()] {
            let pickle = dict(&[
                ("epoch", int(3)),
                (key, inner.clone()),
                ("best_acc1", beside),
                ("optimizer", dict(&[])[2..3].to_vec()),
            ]);
            assert_eq!(load(pth(&pickle, &count(4))).unwrap(), [[0., 1., 2., 3.]]);
        }
    }
    // One of the names may be taken by something else.
    let pickle = dict(&[
        ("state_dict", b"}".to_vec()),
        ("model", inner.clone()),
        ("best_acc1", accuracy),
    ]);
    assert_eq!(load(pth(&pickle, &count(4))).unwrap(), [[0., 1., 2., 3.]]);
    // Which of two models is meant, nobody can tell.
    let pickle = dict(&[("head.w", tensor.clone()), ("model", inner.clone())]);
    refused(
        pth(&pickle, &count(4)),
        ErrorKind::Format,
        "model is a dict, not a tensor",
    );
    let pickle = dict(&[("state_dict_ema", inner.clone())]);
    refused(
        pth(&pickle, &count(4)),
        ErrorKind::Format,
        "state_dict_ema is a dict, not a tensor",
    );
    let pickle = dict(&[("other", inner.clone())]);
    refused(
        pth(&pickle, &count(4)),
        ErrorKind::Format,
        "other is a dict, not a tensor",
    );
    let pickle = dict(&[("w", tensor.clone()), ("epoch", int(3))]);
    refused(
        pth(&pickle, &count(4)),
        ErrorKind::Format,
        "epoch is an int, not a tensor",
    );
    let pickle = dict(&[("w", tensor.clone()), ("w", tensor.clone())]);
    refused(pth(&pickle, &count(4)), ErrorKind::Format, "w comes twice");
    let pickle = dict(&[("a\n\u{202e}b", float(4))]);
    refused(
        pth(&pickle, &count(4)),
        ErrorKind::Format,
        "a\\u{a}\\u{202e}b is a storage",
    );
    // As Python 2 wrote it, from a list of pairs; and with attributes.
    let pairs = [
        b"\x80\x02ccollections\nOrderedDict\n](",
        &string("w")[..],
        &tensor,
        b"\x86e\x85R}b.",
    ];
    assert_eq!(load(pth(&pairs.concat(), &count(4))).unwrap().len(), 1);
}

// Archives.

#[test]
fn legal_archives_that_torch_does_not_write() {
    let pickle = one(rebuild(&float(4), 0, &[4], &[1]));
    let expected = [[0., 1., 2., 3.]];
    let deflated = archive(&[
        ("a/data.pkl", &pickle, CompressionMethod::Deflated),
        ("a/byteorder", b"little", CompressionMethod::Deflated),
        ("a/data/0", &count(4), CompressionMethod::Deflated),
    ]);
    assert_eq!(load(deflated).unwrap(), expected);

    // Names that would leave a folder are never used as such.
    let extra = archive(&[
        ("../../evil", b"x", CompressionMethod::Stored),
        ("/etc/evil", b"x", CompressionMethod::Stored),
        ("a/b/data.pkl", b"x", CompressionMethod::Stored),
        ("../data.pkl.x", b"x", CompressionMethod::Stored),
        ("a/data.pkl", &pickle, CompressionMethod::Stored),
        ("a/data/0", &count(4), CompressionMethod::Stored),
    ]);
    assert_eq!(load(extra).unwrap(), expected);

    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.set_comment("PK\u{5}\u{6} a comment that looks like an end")
        .unwrap();
    let large = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .large_file(true);
    for (name, data) in [("a/data.pkl", &pickle), ("a/data/0", &count(4))] {
        zip.start_file(name, large).unwrap();
        zip.write_all(data).unwrap();
    }
    assert_eq!(load(zip.finish().unwrap().into_inner()).unwrap(), expected);
}

#[test]
fn archives_that_are_refused() {
    use ErrorKind::{Format, Integrity, Unsupported};
    let pickle = one(rebuild(&float(4), 0, &[4], &[1]));
    let stored = CompressionMethod::Stored;
    let data = count(4);
    let good = pth(&pickle, &data);

    let with = |name: &str, content: &[u8]| {
        archive(&[
            ("a/data.pkl", &pickle, stored),
            ("a/data/0", &data, stored),
            (name, content, stored),
        ])
    };
    refused(
        with("a/byteorder", b"big"),
        Unsupported,
        "byte order is big",
    );
    refused(with("a/byteorder", b"little\n"), Unsupported, "byte order");
    refused(
        with("a/byteorder", &[b'x'; 1000]),
        Format,
        "byteorder: 1000 bytes",
    );
    refused(with("b/data.pkl", &pickle), Format, "several checkpoints");
    refused(with("a/constants.pkl", b""), Unsupported, "TorchScript");
    refused(
        archive(&[("data.pkl", &pickle, stored)]),
        Format,
        "without ROOT/data.pkl",
    );
    refused(
        archive(&[("x", b"", stored)]),
        Format,
        "without ROOT/data.pkl",
    );
    refused(archive(&[]), Format, "empty zip archive");
    let big = vec![b'N'; (4 << 20) + 1];
    let bomb = archive(&[("a/data.pkl", &big, CompressionMethod::Deflated)]);
    refused(bomb, Format, "data.pkl: 4194305 bytes");

    // Deflated it is longer than any, and says that it inflates to little.
    let noise: Vec<u8> = (0..(5 << 20) as u32)
        .map(|i| (i.wrapping_mul(0x9E37_79B1).wrapping_mul(i | 1) >> 24) as u8)
        .collect();
    let mut long = archive(&[("a/data.pkl", &noise, CompressionMethod::Deflated)]);
    let at = find_all(&long, b"PK\x01\x02")[0];
    long[at + 24..at + 28].copy_from_slice(&1000_u32.to_le_bytes());
    refused(long, Format, "over the limit of 4194304");

    // Two records of one name: rename one of the same length, in both headers.
    let twice = replace(&with("a/data/1", &data), b"a/data/1", b"a/data/0");
    refused(twice, Format, "two records of one name");

    // One bit of the data, which only the checksum sees.
    let position = find(&good, &data);
    let mut flipped = good.clone();
    flipped[position] ^= 1;
    refused(flipped, Integrity, "tensor w: its record can't be read");
    let position = find(&good, &pickle);
    let mut flipped = good.clone();
    flipped[position + pickle.len() - 3] ^= 1;
    assert!(load(flipped).is_err());

    // The flag of encryption in both headers of every record.
    let mut encrypted = good.clone();
    for (magic, flags) in [(b"PK\x03\x04", 6), (b"PK\x01\x02", 8)] {
        for at in find_all(&good, magic) {
            encrypted[at + flags] |= 1;
        }
    }
    refused(encrypted, Unsupported, "encrypted");

    // Another compression method.
    let mut exotic = good.clone();
    for at in find_all(&good, b"PK\x01\x02") {
        exotic[at + 10] = 14;
    }
    refused(exotic, Unsupported, "is compressed by");

    // A deflated record that goes on after, or ends before, the promised size.
    for claimed in [16, 20_u8] {
        let pickle = one(rebuild(&float(i64::from(claimed) / 4), 0, &[2], &[1]));
        let mut file = archive(&[
            ("a/data.pkl", &pickle, stored),
            ("a/data/0", &[0; 18], CompressionMethod::Deflated),
        ]);
        for (magic, size) in [(b"PK\x03\x04", 22), (b"PK\x01\x02", 24)] {
            let at = find_all(&file, magic)[1];
            assert_eq!(file[at + size], 18);
            file[at + size] = claimed;
        }
        refused(file, Integrity, "tensor w");
    }

    // Cut anywhere.
    for len in 1..good.len() {
        let start = Instant::now();
        assert!(load(good[..len].to_vec()).is_err());
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn bombs_whose_sizes_agree() {
    // 100 MB of zeros in a deflated record of 100 KB, and a pickle that says so.
    let numel = 25_000_000;
    let zeros = vec![0; 100_000_000];
    let whole = one(rebuild(&float(numel), 0, &[4], &[1]));
    let file = archive(&[
        ("a/data.pkl", &whole, CompressionMethod::Stored),
        ("a/data/0", &zeros, CompressionMethod::Deflated),
    ]);
    assert!(file.len() < 200_000);
    refused(file, ErrorKind::Unsupported, "inflate to far more");
    // Small enough for once, but not for many views of it.
    let value = rebuild(&float(1_000_000), 0, &[4], &[1]);
    let names: Vec<String> = (0..100).map(|i| i.to_string()).collect();
    let items: Vec<_> = names.iter().map(|n| (n.as_str(), value.clone())).collect();
    let file = archive(&[
        ("a/data.pkl", &dict(&items), CompressionMethod::Stored),
        ("a/data/0", &zeros[..4_000_000], CompressionMethod::Deflated),
    ]);
    refused(file, ErrorKind::Unsupported, "inflate to far more");
    // Four elements spread over a large storage.
    let value = rebuild(&float(numel), 0, &[4], &[6_000_000]);
    refused(
        pth(&one(value), &zeros),
        ErrorKind::Unsupported,
        ".contiguous()",
    );
}

fn find(bytes: &[u8], pattern: &[u8]) -> usize {
    find_all(bytes, pattern)[0]
}

fn find_all(bytes: &[u8], pattern: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(pattern.len()).enumerate();
    windows
        .filter(|(_, w)| *w == pattern)
        .map(|(at, _)| at)
        .collect()
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for at in find_all(&bytes, from) {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

// Fuzz.

/// Edits of a file: a place (as a fraction), and what happens there.
fn edits() -> impl Strategy<Value = Vec<(u16, Edit)>> {
    let edit = prop_oneof![
        any::<u8>().prop_map(Edit::Set),
        (0..8_u8).prop_map(Edit::Flip),
        prop::collection::vec(any::<u8>(), 1..12).prop_map(Edit::Insert),
        (1..12_usize).prop_map(Edit::Remove),
        any::<u64>().prop_map(|n| Edit::Write(n.to_le_bytes())),
        Just(Edit::Write([0xff; 8])),
    ];
    prop::collection::vec((any::<u16>(), edit), 1..6)
}

#[derive(Clone, Debug)]
enum Edit {
    Set(u8),
    Flip(u8),
    Insert(Vec<u8>),
    Remove(usize),
    Write([u8; 8]),
}

fn apply(bytes: &mut Vec<u8>, edits: &[(u16, Edit)]) {
    for (place, edit) in edits {
        let at = bytes.len() * usize::from(*place) / (1 << 16);
        match edit {
            Edit::Set(value) => bytes[at] = *value,
            Edit::Flip(bit) => bytes[at] ^= 1 << bit,
            Edit::Insert(more) => drop(bytes.splice(at..at, more.iter().copied())),
            Edit::Remove(n) => drop(bytes.drain(at..bytes.len().min(at + n))),
            Edit::Write(word) => {
                let n = word.len().min(bytes.len() - at);
                bytes[at..at + n].copy_from_slice(&word[..n]);
            }
        }
    }
}

/// Reads whatever is there; panics are what the fuzz looks for, and time.
fn survive(bytes: Vec<u8>) {
    let start = Instant::now();
    if let Ok(mut checkpoint) = open(bytes) {
        for index in 0..checkpoint.tensors().len() {
            if let Err(error) = checkpoint.read_f32(index) {
                assert!(!error.to_string().contains('\n'));
            }
        }
    }
    assert!(start.elapsed() < Duration::from_secs(2));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn edited_archives_never_panic(file in prop::sample::select(&GOOD_PTH[..]), edits in edits()) {
        let mut bytes = read(file);
        apply(&mut bytes, &edits);
        survive(bytes);
    }

    /// The checksum would hide most edits of the pickle, so the archive is made anew.
    #[test]
    fn edited_pickles_never_panic(file in prop::sample::select(&GOOD_PTH[..]), edits in edits()) {
        let mut zip = zip::ZipArchive::new(Cursor::new(read(file))).unwrap();
        let mut records = Vec::new();
        for index in 0..zip.len() {
            let mut record = zip.by_index(index).unwrap();
            let name = record.name().unwrap().into_owned();
            let mut data = Vec::new();
            record.read_to_end(&mut data).unwrap();
            if name.ends_with("data.pkl") {
                apply(&mut data, &edits);
            }
            records.push((name, data));
        }
        let records: Vec<Record<'_>> = records
            .iter()
            .map(|(name, data)| (name.as_str(), data.as_slice(), CompressionMethod::Stored))
            .collect();
        survive(archive(&records));
    }

    #[test]
    fn opcodes_at_random_never_panic(body in prop::collection::vec(
        prop_oneof![
            prop::sample::select(&b".(N\x88GJKM\x8aX\x8c)\x85\x86\x87t]ae}suqr\x94hjc\x93QRb\x95"[..]),
            0..4_u8,
        ],
        0..60,
    )) {
        let pickle = [b"\x80\x02", &body[..]].concat();
        survive(pth(&pickle, &[0; 16]));
    }

    #[test]
    fn views_are_read_as_their_strides_say(
        dims in prop::collection::vec((1..4_i64, 0..5_i64), 0..5),
        offset in 0..3_i64,
        spare in 0..3_i64,
    ) {
        let (shape, strides): (Vec<i64>, Vec<i64>) = dims.iter().copied().unzip();
        let span: i64 = dims.iter().map(|(d, stride)| (d - 1) * stride).sum();
        let numel = offset + span + 1 + spare;
        let data = count(u16::try_from(numel).unwrap());
        let read = load(pth(&one(rebuild(&float(numel), offset, &shape, &strides)), &data)).unwrap();
        let mut expected = vec![offset];
        for (d, stride) in dims {
            expected = expected.iter().flat_map(|at| (0..d).map(move |i| at + i * stride)).collect();
        }
        let expected: Vec<f32> = expected.iter().map(|at| *at as f32).collect();
        prop_assert_eq!(&read[0], &expected);
    }
}
