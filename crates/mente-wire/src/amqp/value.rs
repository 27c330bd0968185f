//! Values of every primitive type (part 1 §1.6), and described ones (§1.1.2) whose type nobody
//! here knows.

use std::fmt;

use bytes::Bytes;
use mente_engine::Timestamp;

/// One value. Equal values are of the same type: a uint 1 is not a ulong 1, since those who
/// compare message ids make that difference too. It takes 40 bytes, whose largest part is that
/// of a slice, and comes of one byte at least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Value {
    #[default]
    Null,
    Boolean(bool),
    Ubyte(u8),
    Ushort(u16),
    Uint(u32),
    Ulong(u64),
    Byte(i8),
    Short(i16),
    Int(i32),
    Long(i64),
    /// The bits of an IEEE 754 binary32: numbers that are no numbers stay as they came.
    Float(u32),
    /// The bits of an IEEE 754 binary64.
    Double(u64),
    /// IEEE 754 decimals in the binary encoding, which nobody here computes with.
    Decimal32([u8; 4]),
    Decimal64([u8; 8]),
    Decimal128([u8; 16]),
    Char(char),
    Timestamp(Timestamp),
    Uuid(Uuid),
    Binary(Bytes),
    String(Text),
    Symbol(Symbol),
    List(Vec<Self>),
    Map(Map),
    Array(Box<Array>),
    Described(Box<Described>),
}

/// The type of a value without its width on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Null,
    Boolean,
    Ubyte,
    Ushort,
    Uint,
    Ulong,
    Byte,
    Short,
    Int,
    Long,
    Float,
    Double,
    Decimal32,
    Decimal64,
    Decimal128,
    Char,
    Timestamp,
    Uuid,
    Binary,
    String,
    Symbol,
    List,
    Map,
    Array,
    Described,
}

/// In the order of RFC 4122. A lock token in a delivery tag has another one (.NET's), which its
/// reader turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uuid(pub [u8; 16]);

/// UTF-8, a slice of what it was read from.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text(Bytes);

/// ASCII: a name that some standard defines.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol(Bytes);

/// In the order of the wire. The standard forbids two equal keys and readers differ on them;
/// here the first one is found and all are written again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map(pub Vec<(Value, Value)>);

/// Values of one type, described or not all alike (§1.6.24).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    /// Of each element, the outermost first; none if they are not described.
    descriptors: Vec<Value>,
    kind: Kind,
    /// Each of `kind`.
    elements: Vec<Value>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub descriptor: Value,
    pub value: Value,
}

impl Value {
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Null => Kind::Null,
            Self::Boolean(_) => Kind::Boolean,
            Self::Ubyte(_) => Kind::Ubyte,
            Self::Ushort(_) => Kind::Ushort,
            Self::Uint(_) => Kind::Uint,
            Self::Ulong(_) => Kind::Ulong,
            Self::Byte(_) => Kind::Byte,
            Self::Short(_) => Kind::Short,
            Self::Int(_) => Kind::Int,
            Self::Long(_) => Kind::Long,
            Self::Float(_) => Kind::Float,
            Self::Double(_) => Kind::Double,
            Self::Decimal32(_) => Kind::Decimal32,
            Self::Decimal64(_) => Kind::Decimal64,
            Self::Decimal128(_) => Kind::Decimal128,
            Self::Char(_) => Kind::Char,
            Self::Timestamp(_) => Kind::Timestamp,
            Self::Uuid(_) => Kind::Uuid,
            Self::Binary(_) => Kind::Binary,
            Self::String(_) => Kind::String,
            Self::Symbol(_) => Kind::Symbol,
            Self::List(_) => Kind::List,
            Self::Map(_) => Kind::Map,
            Self::Array(_) => Kind::Array,
            Self::Described(_) => Kind::Described,
        }
    }

    /// The text of a string or a symbol: SDKs send either where the standard has one of them.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text.as_str()),
            Self::Symbol(symbol) => Some(symbol.as_str()),
            _ => None,
        }
    }

    /// An integer of any width, signed or not.
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Self::Ubyte(number) => number.into(),
            Self::Ushort(number) => number.into(),
            Self::Uint(number) => number.into(),
            Self::Ulong(number) => number.into(),
            Self::Byte(number) => number.into(),
            Self::Short(number) => number.into(),
            Self::Int(number) => number.into(),
            Self::Long(number) => number.into(),
            _ => return None,
        })
    }

    /// The value without what describes it: the filter for a session comes described from Go and
    /// plain from others.
    pub fn undescribed(&self) -> &Self {
        let mut value = self;
        while let Self::Described(described) = value {
            value = &described.value;
        }
        value
    }

    pub fn described(descriptor: Self, value: Self) -> Self {
        Self::Described(Box::new(Described { descriptor, value }))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<Text> for Value {
    fn from(text: Text) -> Self {
        Self::String(text)
    }
}

impl From<Array> for Value {
    fn from(array: Array) -> Self {
        Self::Array(Box::new(array))
    }
}

impl From<Symbol> for Value {
    fn from(symbol: Symbol) -> Self {
        Self::Symbol(symbol)
    }
}

impl Text {
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// None if the bytes are no UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Option<Self> {
        std::str::from_utf8(&bytes).is_ok().then_some(Self(bytes))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked where it is made")
    }

    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

/// A symbol is a string of fewer characters.
impl From<Symbol> for Text {
    fn from(symbol: Symbol) -> Self {
        Self(symbol.0)
    }
}

impl Symbol {
    /// Panics on what is not ASCII, which is a mistake in the source.
    pub const fn from_static(text: &'static str) -> Self {
        assert!(text.is_ascii(), "a symbol is ASCII");
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// None if the bytes are not ASCII (§1.6.21).
    pub fn from_ascii(bytes: Bytes) -> Option<Self> {
        bytes.is_ascii().then_some(Self(bytes))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked where it is made")
    }

    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ":{}", self.as_str())
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Map {
    /// The value of a key that is a string or a symbol: the SDKs of JS, Java and Go send strings
    /// where the standard has symbols.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let mut entries = self.0.iter();
        let found = entries.find(|(name, _)| name.as_str() == Some(key));
        found.map(|(_, value)| value)
    }

    /// Puts a value under a symbol, over the one that is there under this text.
    pub fn set(&mut self, key: Symbol, value: Value) {
        let mut entries = self.0.iter_mut();
        match entries.find(|(name, _)| name.as_str() == Some(key.as_str())) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.into(), value)),
        }
    }
}

impl Array {
    /// None unless every element is of `kind`, which is not [`Kind::Described`]: elements that
    /// are described are so by one constructor ([`Self::described`]).
    pub fn new(kind: Kind, elements: Vec<Value>) -> Option<Self> {
        Self::described(Vec::new(), kind, elements)
    }

    /// An array whose elements all have these descriptors, the outermost first.
    pub fn described(descriptors: Vec<Value>, kind: Kind, elements: Vec<Value>) -> Option<Self> {
        let is_alike = elements.iter().all(|element| element.kind() == kind);
        (is_alike && kind != Kind::Described).then_some(Self {
            descriptors,
            kind,
            elements,
        })
    }

    pub const fn kind(&self) -> Kind {
        self.kind
    }

    pub fn descriptors(&self) -> &[Value] {
        &self.descriptors
    }

    /// Without their descriptors.
    pub fn elements(&self) -> &[Value] {
        &self.elements
    }
}
