//! Composite types: a list of fields under a descriptor (part 1 §1.4). Each type says in one
//! place which fields it has and in which order, once for reading and once for writing.

use bytes::Bytes;
use mente_engine::Timestamp;

use super::code;
use super::decode::Reader;
use super::descriptor;
use super::encode::{self, Open};
use super::error::{Malformed, condition};
use super::value::{Map, Symbol, Text, Value};

/// A type of the standard that is a list of fields.
pub(super) trait Composite: Sized {
    /// The standard's name for it.
    const NAME: &'static str;
    /// The numeric descriptor, one of [`descriptor`].
    const CODE: u64;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed>;

    fn write(&self, fields: &mut Writer<'_>);
}

/// What may stand in a field.
pub(super) trait Field: Sized {
    /// The next value; none if it is null.
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed>;

    fn write(&self, out: &mut Vec<u8>);
}

/// The fields of one composite, read in their order.
#[derive(Debug)]
pub(super) struct Fields<'r, 'a> {
    reader: &'r mut Reader<'a>,
    left: usize,
    composite: &'static str,
}

/// The fields of one composite, written in their order.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    count: usize,
}

impl Fields<'_, '_> {
    /// The next field; none if it is null, or left out together with all behind it.
    pub(super) fn get<T: Field>(&mut self, field: &'static str) -> Result<Option<T>, Malformed> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        let value = T::read(self.reader);
        value.map_err(|malformed| malformed.within(self.composite, field))
    }

    /// The next field, which the standard wants there.
    pub(super) fn need<T: Field>(&mut self, field: &'static str) -> Result<T, Malformed> {
        let value = self.get(field)?;
        value.ok_or_else(|| self.invalid(field, "a field that must be there is not"))
    }

    /// The next field or its default.
    pub(super) fn get_or<T: Field>(
        &mut self,
        field: &'static str,
        default: T,
    ) -> Result<T, Malformed> {
        Ok(self.get(field)?.unwrap_or(default))
    }

    /// A value of the right type that its field cannot have.
    pub(super) fn invalid(&self, field: &'static str, what: &'static str) -> Malformed {
        let invalid = Malformed::new(condition::INVALID_FIELD, what, self.reader.at());
        invalid.within(self.composite, field)
    }
}

impl Writer<'_> {
    pub(super) fn put<T: Field>(&mut self, value: &T) -> &mut Self {
        value.write(self.out);
        self.count += 1;
        self
    }

    pub(super) fn maybe<T: Field>(&mut self, value: &Option<T>) -> &mut Self {
        match value {
            Some(value) => self.put(value),
            None => {
                self.out.push(code::NULL);
                self.count += 1;
                self
            }
        }
    }
}

/// The fields of a composite whose descriptor has been read.
pub(super) fn read_fields<T: Composite>(reader: &mut Reader<'_>) -> Result<T, Malformed> {
    read_as(T::NAME, reader, T::read)
}

/// The fields of a composite of this name, as `read` takes them.
pub(super) fn read_as<T>(
    composite: &'static str,
    reader: &mut Reader<'_>,
    read: impl FnOnce(&mut Fields<'_, '_>) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let at = |malformed: Malformed| malformed.within(composite, "");
    let extent = reader.open_list().map_err(at)?;
    let mut fields = Fields {
        reader,
        left: extent.count,
        composite,
    };
    let value = read(&mut fields)?;
    if fields.left > 0 {
        let malformed = fields.reader.malformed("more fields than the type has");
        return Err(at(malformed));
    }
    reader.close(extent).map_err(at)?;
    Ok(value)
}

/// Appends a composite with all its fields, null or not.
pub(super) fn write<T: Composite>(value: &T, out: &mut Vec<u8>) {
    write_as(T::CODE, out, |fields| value.write(fields));
}

/// Appends a composite of this descriptor with the fields that `write` puts.
pub(super) fn write_as(code: u64, out: &mut Vec<u8>, write: impl FnOnce(&mut Writer<'_>)) {
    describe(code, out);
    let open = Open::begin(out);
    let mut fields = Writer { out, count: 0 };
    write(&mut fields);
    let count = fields.count;
    open.end_list(count, out);
}

/// Appends the constructor of a described value, which the value follows.
pub(super) fn describe(code: u64, out: &mut Vec<u8>) {
    out.push(code::DESCRIBED);
    encode::ulong(code, out);
}

/// The descriptor of the next value; none if the value is null.
pub(super) fn read_descriptor(reader: &mut Reader<'_>) -> Result<Option<u64>, Malformed> {
    match reader.byte()? {
        code::NULL => return Ok(None),
        code::DESCRIBED => {}
        _ => return Err(reader.malformed("a value without a descriptor")),
    }
    if let Some(number) = reader.unsigned() {
        return Ok(Some(number));
    }
    let value = reader.primitive()?;
    let number = value.as_integer().map(u64::try_from);
    match (value.as_str(), number) {
        (Some(symbol), _) => descriptor::of_symbol(symbol)
            .map(Some)
            .ok_or_else(|| unknown(reader)),
        (None, Some(Ok(number))) => Ok(Some(number)),
        _ => Err(reader.malformed("a descriptor that is neither a number nor a symbol")),
    }
}

/// A descriptor of somebody else's, or of something that this place does not take.
pub(super) const fn unknown(reader: &Reader<'_>) -> Malformed {
    Malformed::new(
        condition::NOT_IMPLEMENTED,
        "a descriptor that is not known in this place",
        reader.at(),
    )
}

impl<T: Composite> Field for T {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        match read_descriptor(reader)? {
            None => Ok(None),
            Some(code) if code == T::CODE => read_fields(reader).map(Some),
            Some(_) => Err(unknown(reader)),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        write(self, out);
    }
}

/// An integer of any width and sign that `T` can hold: the SDKs of three languages choose
/// different ones for the same field.
fn integer<T: TryFrom<i128>>(reader: &mut Reader<'_>) -> Result<Option<T>, Malformed> {
    let number = match reader.unsigned() {
        Some(number) => number.into(),
        None => match reader.primitive()? {
            Value::Null => return Ok(None),
            other => {
                let number = other.as_integer();
                number.ok_or_else(|| reader.malformed("no integer where one belongs"))?
            }
        },
    };
    let fits = T::try_from(number).ok();
    let fits = fits.ok_or_else(|| reader.malformed("an integer too large for its field"));
    fits.map(Some)
}

impl Field for u8 {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        integer(reader)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[code::UBYTE, *self]);
    }
}

impl Field for u16 {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        integer(reader)
    }

    fn write(&self, out: &mut Vec<u8>) {
        let [high, low] = self.to_be_bytes();
        out.extend_from_slice(&[code::USHORT, high, low]);
    }
}

impl Field for u32 {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        integer(reader)
    }

    fn write(&self, out: &mut Vec<u8>) {
        encode::uint(*self, out);
    }
}

impl Field for u64 {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        integer(reader)
    }

    fn write(&self, out: &mut Vec<u8>) {
        encode::ulong(*self, out);
    }
}

impl Field for bool {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        match reader.primitive()? {
            Value::Null => Ok(None),
            Value::Boolean(flag) => Ok(Some(flag)),
            _ => Err(reader.malformed("no boolean where one belongs")),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        encode::boolean(*self, out);
    }
}

impl Field for Timestamp {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        match reader.primitive()? {
            Value::Null => Ok(None),
            Value::Timestamp(at) => Ok(Some(at)),
            _ => Err(reader.malformed("no timestamp where one belongs")),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        encode::encode(&Value::Timestamp(*self), out);
    }
}

impl Field for Bytes {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        match reader.primitive()? {
            Value::Null => Ok(None),
            Value::Binary(bytes) => Ok(Some(bytes)),
            _ => Err(reader.malformed("no binary where one belongs")),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        encode::variable(code::BINARY_8, self, out);
    }
}

/// A string, or a symbol in its place.
impl Field for Text {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        match reader.primitive()? {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text)),
            Value::Symbol(symbol) => Ok(Some(symbol.into())),
            _ => Err(reader.malformed("no string where one belongs")),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        encode::variable(code::STRING_8, self.as_bytes(), out);
    }
}

/// A symbol, or a string in its place.
impl Field for Symbol {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        match reader.primitive()? {
            Value::Null => Ok(None),
            value => symbol(value, reader).map(Some),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        encode::variable(code::SYMBOL_8, self.as_bytes(), out);
    }
}

fn symbol(value: Value, reader: &Reader<'_>) -> Result<Symbol, Malformed> {
    let symbol = match value {
        Value::Symbol(symbol) => Some(symbol),
        Value::String(text) => Symbol::from_ascii(text.as_bytes().clone()),
        _ => None,
    };
    symbol.ok_or_else(|| reader.malformed("no symbol where one belongs"))
}

/// A field that may have several symbols (§1.4, `multiple`): one of them, or an array. None of
/// them is null; even one is written as an array, as there are clients that expect one.
impl Field for Vec<Symbol> {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        let array = match reader.peek() {
            Some(code @ (code::ARRAY_8 | code::ARRAY_32)) => {
                reader.byte()?;
                reader.array_of(code)?
            }
            _ => return Ok(Symbol::read(reader)?.map(|one| vec![one])),
        };
        let elements = array.elements().iter();
        let symbols = elements.map(|element| symbol(element.clone(), reader));
        symbols.collect::<Result<_, _>>().map(Some)
    }

    fn write(&self, out: &mut Vec<u8>) {
        if self.is_empty() {
            out.push(code::NULL);
        } else {
            encode::symbols(self, out);
        }
    }
}

/// Keys and values of whatever types: `Map::get` looks for strings and symbols alike.
impl Field for Map {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        match reader.byte()? {
            code::NULL => Ok(None),
            code @ (code::MAP_8 | code::MAP_32) => reader.map_of(code).map(Some),
            _ => Err(reader.malformed("no map where one belongs")),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        encode::map(self, out);
    }
}

/// A field of any type.
impl Field for Value {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        let value = reader.value()?;
        Ok((value != Self::Null).then_some(value))
    }

    fn write(&self, out: &mut Vec<u8>) {
        encode::encode(self, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::message::{Header, Properties};
    use crate::amqp::performative::{
        Attach, Begin, Close, Detach, Disposition, End, Flow, Open, Transfer,
    };
    use crate::amqp::sasl::{Challenge, Init, Mechanisms, Response, SaslOutcome};
    use crate::amqp::state::{Error, Modified};
    use crate::amqp::terminus::{Coordinator, Source, Target};
    use crate::amqp::transaction::{Declare, Discharge};

    fn check<T: Composite>(code: u64) {
        assert_eq!(T::CODE, code, "{}", T::NAME);
        let name = format!("amqp:{}:list", T::NAME);
        assert_eq!(descriptor::of_symbol(&name), Some(code), "{name}");
    }

    #[test]
    fn every_type_has_its_number_and_its_name() {
        check::<Open>(0x10);
        check::<Begin>(0x11);
        check::<Attach>(0x12);
        check::<Flow>(0x13);
        check::<Transfer>(0x14);
        check::<Disposition>(0x15);
        check::<Detach>(0x16);
        check::<End>(0x17);
        check::<Close>(0x18);
        check::<Error>(0x1d);
        check::<Modified>(0x27);
        check::<Source>(0x28);
        check::<Target>(0x29);
        check::<Coordinator>(0x30);
        check::<Declare>(0x31);
        check::<Discharge>(0x32);
        check::<Mechanisms>(0x40);
        check::<Init>(0x41);
        check::<Challenge>(0x42);
        check::<Response>(0x43);
        check::<SaslOutcome>(0x44);
        check::<Header>(0x70);
        check::<Properties>(0x73);
        for (code, name) in [
            (0x23, "amqp:received:list"),
            (0x24, "amqp:accepted:list"),
            (0x25, "amqp:rejected:list"),
            (0x26, "amqp:released:list"),
            (0x33, "amqp:declared:list"),
            (0x34, "amqp:transactional-state:list"),
            (0x71, "amqp:delivery-annotations:map"),
            (0x72, "amqp:message-annotations:map"),
            (0x74, "amqp:application-properties:map"),
            (0x75, "amqp:data:binary"),
            (0x76, "amqp:amqp-sequence:list"),
            (0x77, "amqp:amqp-value:*"),
            (0x78, "amqp:footer:map"),
        ] {
            assert_eq!(descriptor::of_symbol(name), Some(code), "{name}");
        }
        assert_eq!(descriptor::of_symbol("amqp:data:list"), None);
    }
}
