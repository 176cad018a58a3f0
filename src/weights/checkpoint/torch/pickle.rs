//! A restricted pickle machine: it builds state dicts, calls nothing, and knows no other globals.
//!
//! Pickle is a program for a stack machine; Python's would call any function that the file names.
//! This one reads what `torch.save` writes for a state dict (protocols 2 to 5) and refuses the
//! rest by name. It does no I/O. Values live in flat tables and refer to each other by index, so
//! nesting costs no stack, neither while reading nor while dropping.
//!
//! Source: `pickletools` of Python, which documents every opcode, and `torch/_utils.py`.

use std::ops::Range;

use crate::error::{Error, Result, printable};
use crate::weights::checkpoint::dtype::Dtype;

/// The largest pickle, in bytes. That of the largest AIM takes 40 KB.
pub const MAX_PICKLE: usize = 4 << 20;

/// The most values that a pickle may make, tensors' dimensions included. A tensor takes about 40.
///
/// Every value also takes a byte of input at least: a small file can't make many.
const MAX_VALUES: usize = 1 << 18;

/// A tensor as a pickle describes it. Nothing here has been held against the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRef {
    /// The storage that holds the elements: its record in the archive is `data/KEY`.
    pub key: String,
    /// The type of the storage's elements.
    pub dtype: Dtype,
    /// Elements of the whole storage.
    pub storage_numel: u64,
    /// Where the tensor's first element lies in the storage, in elements.
    pub offset: u64,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Distance between neighbours along each dimension, in elements; as many as `shape` has.
    pub strides: Vec<u64>,
}

/// Reads a pickled state dict: its tensors by name, in order.
///
/// A state dict inside a dict, under `state_dict`, `model_state_dict` or `model`, is found if the outer one
/// holds no parameters itself; whatever else lies beside it is ignored.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a call or a class that isn't
/// allowed, by its full name, and for an opcode that `torch.save` doesn't write;
/// [`ErrorKind::Format`](crate::ErrorKind::Format) for everything that breaks the format or isn't
/// a state dict of tensors.
pub fn state_dict(pickle: &[u8]) -> Result<Vec<(String, TensorRef)>> {
    let machine = Machine::run(pickle)?;
    machine.state_dict()
}

/// The globals that a state dict needs. None of them is code here, only a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

impl Global {
    fn find(module: &[u8], name: &[u8]) -> Option<Self> {
        Some(match (module, name) {
            (b"collections", b"OrderedDict") => Self::OrderedDict,
            (b"torch._utils", b"_rebuild_tensor_v2") => Self::RebuildTensor,
            (b"torch._utils", b"_rebuild_parameter") => Self::RebuildParameter,
            (b"torch", b"DoubleStorage") => Self::Storage(Dtype::F64),
            (b"torch", b"FloatStorage") => Self::Storage(Dtype::F32),
            (b"torch", b"HalfStorage") => Self::Storage(Dtype::F16),
            (b"torch", b"BFloat16Storage") => Self::Storage(Dtype::Bf16),
            (b"torch", b"LongStorage") => Self::Storage(Dtype::I64),
            (b"torch", b"IntStorage") => Self::Storage(Dtype::I32),
            (b"torch", b"ShortStorage") => Self::Storage(Dtype::I16),
            (b"torch", b"CharStorage") => Self::Storage(Dtype::I8),
            (b"torch", b"ByteStorage") => Self::Storage(Dtype::U8),
            (b"torch", b"BoolStorage") => Self::Storage(Dtype::Bool),
            _ => return None,
        })
    }
}

/// A piece of the pickle: start and length. Both fit because the pickle is at most 4 MiB.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    len: u32,
}

/// A value; the variants with a number are indices into a table of [`Machine`].
#[derive(Clone, Copy, Debug)]
enum Value {
    None,
    Bool,
    Float,
    Int(i64),
    Str(Span),
    Global(Global),
    Tuple(u32),
    List(u32),
    Dict(u32),
    OrderedDict(u32),
    Storage(u32),
    Tensor(u32),
}

impl Value {
    /// What it is, for messages.
    const fn kind(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool => "a bool",
            Self::Float => "a float",
            Self::Int(_) => "an int",
            Self::Str(_) => "a string",
            Self::Global(_) => "a class",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) | Self::OrderedDict(_) => "a dict",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Storage {
    key: Span,
    dtype: Dtype,
    numel: u64,
}

#[derive(Debug)]
struct Tensor {
    storage: u32,
    offset: u64,
    shape: Vec<usize>,
    strides: Vec<u64>,
}

struct Machine<'a> {
    pickle: &'a [u8],
    /// The next byte to read.
    at: usize,
    stack: Vec<Value>,
    /// Heights of the stack at each open mark.
    marks: Vec<usize>,
    /// Python's memo is a dict; `torch.save` numbers it from 0 without holes, so a table does.
    memo: Vec<Value>,
    tuples: Vec<Box<[Value]>>,
    lists: Vec<Vec<Value>>,
    dicts: Vec<Vec<(Value, Value)>>,
    storages: Vec<Storage>,
    tensors: Vec<Tensor>,
    made: usize,
    root: Value,
}

impl<'a> Machine<'a> {
    /// Runs the pickle to its end.
    fn run(pickle: &'a [u8]) -> Result<Self> {
        if pickle.len() > MAX_PICKLE {
            return Err(broken(format!(
                "{} bytes, over the limit of {MAX_PICKLE}",
                pickle.len()
            )));
        }
        let mut machine = Self {
            pickle,
            at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
            tuples: Vec::new(),
            lists: Vec::new(),
            dicts: Vec::new(),
            storages: Vec::new(),
            tensors: Vec::new(),
            made: 0,
            root: Value::None,
        };
        match machine.bytes(2)? {
            [0x80, 2..=5] => {}
            [0x80, protocol] => {
                return Err(Error::unsupported(format!(
                    "pickle protocol {protocol} is not one of torch.save's: {SAVE_AGAIN}"
                )));
            }
            _ => return Err(broken("it does not begin with its protocol")),
        }
        while machine.step()? {}
        if machine.at != pickle.len() {
            return Err(broken(format!(
                "{} bytes follow its end",
                pickle.len() - machine.at
            )));
        }
        Ok(machine)
    }

    /// Runs one opcode; false at the last.
    fn step(&mut self) -> Result<bool> {
        let at = self.at;
        let [opcode] = self.take()?;
        match opcode {
            b'.' => {
                self.root = self.pop()?;
                if !self.stack.is_empty() || !self.marks.is_empty() {
                    return Err(broken("values are left when it ends"));
                }
                return Ok(false);
            }
            // FRAME: only a hint for reading ahead, but its length must be honest.
            0x95 => {
                let len = u64::from_le_bytes(self.take()?);
                if len > (self.pickle.len() - self.at) as u64 {
                    return Err(broken(format!("a frame of {len} bytes passes its end")));
                }
            }
            b'(' => {
                self.count(1)?;
                self.marks.push(self.stack.len());
            }
            b'N' => self.push(Value::None)?,
            0x88 | 0x89 => self.push(Value::Bool)?,
            b'G' => {
                self.bytes(8)?;
                self.push(Value::Float)?;
            }
            b'J' => {
                let value = i32::from_le_bytes(self.take()?);
                self.push(Value::Int(value.into()))?;
            }
            b'K' => {
                let [value] = self.take()?;
                self.push(Value::Int(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.take()?);
                self.push(Value::Int(value.into()))?;
            }
            0x8a => self.long1()?,
            b'X' => {
                let len = u32::from_le_bytes(self.take()?);
                self.string(len.into())?;
            }
            0x8c => {
                let [len] = self.take()?;
                self.string(len.into())?;
            }
            0x8d => {
                let len = u64::from_le_bytes(self.take()?);
                self.string(len)?;
            }
            b')' => self.tuple(self.stack.len())?,
            0x85..=0x87 => {
                let start = self.below(usize::from(opcode - 0x84))?;
                self.tuple(start)?;
            }
            b't' => {
                let start = self.mark()?;
                self.tuple(start)?;
            }
            b']' => {
                let list = index(self.lists.len())?;
                self.lists.push(Vec::new());
                self.push(Value::List(list))?;
            }
            b'a' => {
                let start = self.below(1)?;
                self.append(start)?;
            }
            b'e' => {
                let start = self.mark()?;
                self.append(start)?;
            }
            b'}' => {
                let dict = self.dict(Vec::new())?;
                self.push(Value::Dict(dict))?;
            }
            b's' => {
                let start = self.below(2)?;
                self.set_items(start)?;
            }
            b'u' => {
                let start = self.mark()?;
                self.set_items(start)?;
            }
            b'q' => {
                let [slot] = self.take()?;
                self.put(slot.into())?;
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.take()?);
                self.put(slot)?;
            }
            0x94 => self.put(index(self.memo.len())?)?,
            b'h' => {
                let [slot] = self.take()?;
                self.get(slot.into())?;
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.take()?);
                self.get(slot)?;
            }
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(module, name)?;
            }
            0x93 => {
                let (Value::Str(module), Value::Str(name)) = self.pop2()? else {
                    return Err(broken("STACK_GLOBAL without two names"));
                };
                self.global(module, name)?;
            }
            b'Q' => self.persistent()?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            _ => return Err(self.refuse(opcode, at)),
        }
        Ok(true)
    }

    // Input.

    fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(len);
        let bytes = end.and_then(|end| self.pickle.get(self.at..end));
        let Some(bytes) = bytes else {
            return Err(broken("it ends early"));
        };
        self.at += len;
        Ok(bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    /// The bytes up to the next newline, which is the only end of a line in pickle.
    fn line(&mut self) -> Result<Span> {
        let rest = self.pickle.get(self.at..).unwrap_or_default();
        let Some(len) = rest.iter().position(|b| *b == b'\n') else {
            return Err(broken("it ends within a name"));
        };
        let span = self.span(len)?;
        self.bytes(1)?;
        Ok(span)
    }

    fn span(&mut self, len: usize) -> Result<Span> {
        let start = index(self.at)?;
        self.bytes(len)?;
        Ok(Span {
            start,
            len: index(len)?,
        })
    }

    fn raw(&self, span: Span) -> &'a [u8] {
        let range: Range<usize> = span.start as usize..span.start as usize + span.len as usize;
        self.pickle.get(range).unwrap_or_default()
    }

    fn text(&self, span: Span) -> String {
        String::from_utf8_lossy(self.raw(span)).into_owned()
    }

    fn string(&mut self, len: u64) -> Result<()> {
        let len = usize::try_from(len).map_err(|_| broken("a string passes its end"))?;
        let span = self.span(len)?;
        if std::str::from_utf8(self.raw(span)).is_err() {
            return Err(broken("a string is not UTF-8"));
        }
        self.push(Value::Str(span))
    }

    /// LONG1: little-endian two's complement, 0 to 255 bytes; more than 8 make no size of a tensor.
    fn long1(&mut self) -> Result<()> {
        let [len] = self.take()?;
        let bytes = self.bytes(len.into())?;
        if bytes.len() > 8 {
            return Err(broken(format!("an integer of {len} bytes is out of range")));
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut word = if negative { [0xff; 8] } else { [0; 8] };
        word[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(word)))
    }

    // Stack and memo.

    /// Charges `n` values to the budget.
    fn count(&mut self, n: usize) -> Result<()> {
        self.made = self.made.saturating_add(n);
        if self.made > MAX_VALUES {
            return Err(broken(format!("it makes more than {MAX_VALUES} values")));
        }
        Ok(())
    }

    fn push(&mut self, value: Value) -> Result<()> {
        self.count(1)?;
        self.stack.push(value);
        Ok(())
    }

    /// Where the uppermost `n` values begin. They must lie above the last mark.
    fn below(&self, n: usize) -> Result<usize> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack
            .len()
            .checked_sub(n)
            .filter(|start| *start >= floor)
            .ok_or_else(|| broken("its stack is empty where a value is needed"))
    }

    fn pop(&mut self) -> Result<Value> {
        self.below(1)?;
        self.stack
            .pop()
            .ok_or_else(|| broken("its stack is empty where a value is needed"))
    }

    fn pop2(&mut self) -> Result<(Value, Value)> {
        let second = self.pop()?;
        Ok((self.pop()?, second))
    }

    /// The uppermost value, which must lie above the last mark.
    fn top(&self) -> Result<Value> {
        let start = self.below(1)?;
        Ok(self.stack[start])
    }

    /// Closes the last mark; the values above begin where it says.
    fn mark(&mut self) -> Result<usize> {
        self.marks.pop().ok_or_else(|| broken("a mark is missing"))
    }

    fn put(&mut self, slot: u32) -> Result<()> {
        let value = self.top()?;
        let slot = slot as usize;
        if slot == self.memo.len() {
            self.count(1)?;
            self.memo.push(value);
        } else if let Some(old) = self.memo.get_mut(slot) {
            *old = value;
        } else {
            return Err(broken(format!(
                "memo slot {slot} is written, the next free one is {}",
                self.memo.len()
            )));
        }
        Ok(())
    }

    fn get(&mut self, slot: u32) -> Result<()> {
        let Some(value) = self.memo.get(slot as usize) else {
            return Err(broken(format!(
                "memo slot {slot} is read but was never written"
            )));
        };
        self.push(*value)
    }

    // Containers. Each charges what it copies.

    fn tuple(&mut self, start: usize) -> Result<()> {
        let tuple = index(self.tuples.len())?;
        self.tuples.push(self.stack.drain(start..).collect());
        self.push(Value::Tuple(tuple))
    }

    fn append(&mut self, start: usize) -> Result<()> {
        let items = self.stack.split_off(start);
        let Value::List(list) = self.top()? else {
            return Err(broken(format!("it appends to {}", self.top()?.kind())));
        };
        self.lists[list as usize].extend(items);
        Ok(())
    }

    fn dict(&mut self, items: Vec<(Value, Value)>) -> Result<u32> {
        let dict = index(self.dicts.len())?;
        self.dicts.push(items);
        Ok(dict)
    }

    fn set_items(&mut self, start: usize) -> Result<()> {
        let items = self.stack.split_off(start);
        let (Value::Dict(dict) | Value::OrderedDict(dict)) = self.top()? else {
            return Err(broken(format!("it sets items of {}", self.top()?.kind())));
        };
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(broken("a dict has a key without a value"));
        }
        self.dicts[dict as usize].extend(pairs.iter().map(|[key, value]| (*key, *value)));
        Ok(())
    }

    // Objects.

    fn global(&mut self, module: Span, name: Span) -> Result<()> {
        let Some(global) = Global::find(self.raw(module), self.raw(name)) else {
            return Err(refused(&format!(
                "{}.{}",
                self.text(module),
                self.text(name)
            )));
        };
        self.push(Value::Global(global))
    }

    /// BINPERSID: `('storage', class, key, location, numel)`. Where the tensor lived doesn't matter.
    fn persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        let parts: &[Value] = match id {
            Value::Tuple(tuple) => &self.tuples[tuple as usize],
            _ => &[],
        };
        let [
            Value::Str(tag),
            Value::Global(Global::Storage(dtype)),
            Value::Str(key),
            Value::Str(_),
            Value::Int(numel),
        ] = *parts
        else {
            return Err(broken("a persistent id is no storage"));
        };
        if self.raw(tag) != b"storage" {
            return Err(broken("a persistent id is no storage"));
        }
        // Each tensor copies its storage's key, and a pickle can name one storage many times.
        if key.len > MAX_KEY {
            return Err(broken(format!("a storage's key has {} bytes", key.len)));
        }
        let numel =
            u64::try_from(numel).map_err(|_| broken(format!("a storage of {numel} elements")))?;
        let storage = index(self.storages.len())?;
        self.storages.push(Storage { key, dtype, numel });
        self.push(Value::Storage(storage))
    }

    /// REDUCE: Python calls a function here; this looks at which one and copies its arguments.
    fn reduce(&mut self) -> Result<()> {
        let (function, arguments) = self.pop2()?;
        let (Value::Global(function), Value::Tuple(arguments)) = (function, arguments) else {
            return Err(broken(format!(
                "it calls {} with {}",
                function.kind(),
                arguments.kind()
            )));
        };
        let arguments = &self.tuples[arguments as usize];
        match function {
            Global::OrderedDict => {
                let items = match **arguments {
                    [] => Vec::new(),
                    [Value::List(list)] => self.pairs(list)?,
                    _ => return Err(broken("an OrderedDict is made of something odd")),
                };
                self.count(items.len().saturating_mul(2))?;
                let dict = self.dict(items)?;
                self.push(Value::OrderedDict(dict))
            }
            Global::RebuildTensor => {
                let (Value::Storage(storage), Value::Int(offset), size, stride) = (match **arguments
                {
                    // requires_grad, backward_hooks and, perhaps, metadata don't matter.
                    [storage, offset, size, stride, _, _]
                    | [storage, offset, size, stride, _, _, _] => (storage, offset, size, stride),
                    _ => return Err(broken("a tensor has the wrong number of arguments")),
                }) else {
                    return Err(broken("a tensor is made of something odd"));
                };
                let offset = u64::try_from(offset)
                    .map_err(|_| broken(format!("a tensor has the negative offset {offset}")))?;
                let shape: Vec<usize> = self.sizes(size, "shape")?;
                let strides: Vec<u64> = self.sizes(stride, "stride")?;
                if shape.len() != strides.len() {
                    return Err(broken(format!(
                        "a tensor of {} dimensions has {} strides",
                        shape.len(),
                        strides.len()
                    )));
                }
                self.count(shape.len().saturating_mul(2))?;
                let tensor = index(self.tensors.len())?;
                self.tensors.push(Tensor {
                    storage,
                    offset,
                    shape,
                    strides,
                });
                self.push(Value::Tensor(tensor))
            }
            Global::RebuildParameter => match **arguments {
                [tensor @ Value::Tensor(_), _, _] => self.push(tensor),
                _ => Err(broken("a parameter is made of something odd")),
            },
            Global::Storage(dtype) => Err(broken(format!("it makes a bare storage of {dtype}"))),
        }
    }

    /// `[(key, value), ...]`, the argument of an `OrderedDict`.
    fn pairs(&self, list: u32) -> Result<Vec<(Value, Value)>> {
        self.lists[list as usize]
            .iter()
            .map(|pair| {
                let items: &[Value] = match *pair {
                    Value::Tuple(tuple) => &self.tuples[tuple as usize],
                    Value::List(list) => &self.lists[list as usize],
                    _ => &[],
                };
                match *items {
                    [key, value] => Ok((key, value)),
                    _ => Err(broken("an OrderedDict is made of something odd")),
                }
            })
            .collect()
    }

    /// A short tuple of non-negative integers.
    fn sizes<T: TryFrom<i64>>(&self, value: Value, what: &str) -> Result<Vec<T>> {
        let Value::Tuple(tuple) = value else {
            return Err(broken(format!("a tensor's {what} is {}", value.kind())));
        };
        let items = &self.tuples[tuple as usize];
        if items.len() > MAX_RANK {
            return Err(broken(format!("a tensor has {} dimensions", items.len())));
        }
        items
            .iter()
            .map(|item| match *item {
                Value::Int(n) => {
                    T::try_from(n).map_err(|_| broken(format!("a tensor's {what} holds {n}")))
                }
                other => Err(broken(format!("a tensor's {what} holds {}", other.kind()))),
            })
            .collect()
    }

    /// BUILD: sets attributes. A state dict has `_metadata`, the versions of its modules.
    fn build(&mut self) -> Result<()> {
        self.pop()?;
        match self.top()? {
            Value::OrderedDict(_) => Ok(()),
            other => Err(Error::unsupported(format!(
                "the pickle sets attributes of {}: {SAVE_AGAIN}",
                other.kind()
            ))),
        }
    }

    /// The error for an opcode that a state dict doesn't need.
    fn refuse(&mut self, opcode: u8, at: usize) -> Error {
        let what = match opcode {
            // INST names what it calls, as GLOBAL does.
            b'i' => {
                if let (Ok(module), Ok(name)) = (self.line(), self.line()) {
                    return refused(&format!("{}.{}", self.text(module), self.text(name)));
                }
                "INST"
            }
            b'o' => "OBJ",
            0x81 => "NEWOBJ",
            0x92 => "NEWOBJ_EX",
            0x82..=0x84 => "an EXT code",
            _ => {
                return Error::unsupported(format!(
                    "the pickle has opcode 0x{opcode:02x} at byte {at}, which no state dict needs: {SAVE_AGAIN}"
                ));
            }
        };
        Error::unsupported(format!(
            "refused to make an object by {what} at byte {at}: the pickle holds more than tensors; {SAVE_AGAIN}"
        ))
    }

    // The result.

    fn items(&self, value: Value) -> Option<&[(Value, Value)]> {
        match value {
            Value::Dict(dict) | Value::OrderedDict(dict) => {
                self.dicts.get(dict as usize).map(Vec::as_slice)
            }
            _ => None,
        }
    }

    /// The state dict of a training's checkpoint, which keeps it beside other things.
    fn nested<'s>(&'s self, items: &'s [(Value, Value)]) -> Option<&'s [(Value, Value)]> {
        let is_tensor = |(_, value): &&(Value, Value)| matches!(value, Value::Tensor(_));
        // Every parameter of AIM lies in a module, which its name begins with; best_acc1 lies in none.
        let is_parameter = |(key, _): &(Value, Value)| matches!(key, Value::Str(span) if self.raw(*span).contains(&b'.'));
        let mut tensors = items.iter().filter(is_tensor).peekable();
        let has_tensors = tensors.peek().is_some();
        if tensors.any(is_parameter) {
            return None;
        }
        let mut found = NESTED.iter().filter_map(|wanted| {
            // The last of equal keys counts, as in Python.
            let found = items.iter().rev().find(
                |(key, _)| matches!(key, Value::Str(span) if self.raw(*span) == wanted.as_bytes()),
            )?;
            self.items(found.1)
        });
        let full = found
            .clone()
            .find(|inner| inner.iter().any(|item| is_tensor(&item)));
        // One that holds none is refused for what it holds, unless there is something else to refuse.
        if has_tensors {
            full
        } else {
            full.or_else(|| found.next())
        }
    }

    fn state_dict(&self) -> Result<Vec<(String, TensorRef)>> {
        let Some(mut items) = self.items(self.root) else {
            return Err(Error::format(format!(
                "holds {}, not a state dict: {SAVE_AGAIN}",
                self.root.kind()
            )));
        };
        items = self.nested(items).unwrap_or(items);
        let mut names = std::collections::HashSet::new();
        let mut tensors = Vec::new();
        for (key, value) in items {
            let Value::Str(span) = *key else {
                return Err(Error::format(format!(
                    "a key of the state dict is {}: {SAVE_AGAIN}",
                    key.kind()
                )));
            };
            let name = self.text(span);
            let Value::Tensor(tensor) = *value else {
                return Err(Error::format(format!(
                    "{} is {}, not a tensor: {SAVE_AGAIN}",
                    printable(&name),
                    value.kind()
                )));
            };
            if !names.insert(self.raw(span)) {
                return Err(Error::format(format!(
                    "tensor {} comes twice: {SAVE_AGAIN}",
                    printable(&name)
                )));
            }
            let tensor = &self.tensors[tensor as usize];
            let storage = self.storages[tensor.storage as usize];
            tensors.push((
                name,
                TensorRef {
                    key: self.text(storage.key),
                    dtype: storage.dtype,
                    storage_numel: storage.numel,
                    offset: tensor.offset,
                    shape: tensor.shape.clone(),
                    strides: tensor.strides.clone(),
                },
            ));
        }
        if tensors.is_empty() {
            return Err(Error::format(format!(
                "holds an empty dict, not a state dict: {SAVE_AGAIN}"
            )));
        }
        Ok(tensors)
    }
}

/// What training scripts call the state dict in their checkpoints: PyTorch's examples, its tutorials, and others.
const NESTED: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// The most dimensions of one tensor: torch's own limit.
const MAX_RANK: usize = 64;

/// The longest storage key, in bytes. `torch.save` numbers storages.
const MAX_KEY: u32 = 64;

/// What to do about a pickle that holds more than it should.
const SAVE_AGAIN: &str = "in Python, save model.state_dict() with torch.save";

fn broken(what: impl std::fmt::Display) -> Error {
    Error::format(format!(
        "the pickle is broken: {what}; download the file again"
    ))
}

fn refused(name: &str) -> Error {
    Error::unsupported(format!(
        "refused to call {}: the pickle holds more than tensors; {SAVE_AGAIN}",
        printable(name)
    ))
}

/// Indices fit in 32 bits because pickles are at most 4 MiB.
fn index(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| broken("it is too large"))
}
