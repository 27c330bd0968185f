//! Format codes of the primitive types (part 1 §1.6). The high half says how the size of what
//! follows is told (§1.2): nothing, 1, 2, 4, 8 or 16 bytes, or by a size of 1 or 4 bytes.

pub(super) const DESCRIBED: u8 = 0x00;
pub(super) const NULL: u8 = 0x40;
pub(super) const TRUE: u8 = 0x41;
pub(super) const FALSE: u8 = 0x42;
pub(super) const UINT_0: u8 = 0x43;
pub(super) const ULONG_0: u8 = 0x44;
pub(super) const LIST_0: u8 = 0x45;
pub(super) const UBYTE: u8 = 0x50;
pub(super) const BYTE: u8 = 0x51;
pub(super) const UINT_SMALL: u8 = 0x52;
pub(super) const ULONG_SMALL: u8 = 0x53;
pub(super) const INT_SMALL: u8 = 0x54;
pub(super) const LONG_SMALL: u8 = 0x55;
pub(super) const BOOLEAN: u8 = 0x56;
pub(super) const USHORT: u8 = 0x60;
pub(super) const SHORT: u8 = 0x61;
pub(super) const UINT: u8 = 0x70;
pub(super) const INT: u8 = 0x71;
pub(super) const FLOAT: u8 = 0x72;
pub(super) const CHAR: u8 = 0x73;
pub(super) const DECIMAL_32: u8 = 0x74;
pub(super) const ULONG: u8 = 0x80;
pub(super) const LONG: u8 = 0x81;
pub(super) const DOUBLE: u8 = 0x82;
pub(super) const TIMESTAMP: u8 = 0x83;
pub(super) const DECIMAL_64: u8 = 0x84;
pub(super) const DECIMAL_128: u8 = 0x94;
pub(super) const UUID: u8 = 0x98;
pub(super) const BINARY_8: u8 = 0xa0;
pub(super) const STRING_8: u8 = 0xa1;
pub(super) const SYMBOL_8: u8 = 0xa3;
pub(super) const BINARY_32: u8 = 0xb0;
pub(super) const STRING_32: u8 = 0xb1;
pub(super) const SYMBOL_32: u8 = 0xb3;
pub(super) const LIST_8: u8 = 0xc0;
pub(super) const MAP_8: u8 = 0xc1;
pub(super) const LIST_32: u8 = 0xd0;
pub(super) const MAP_32: u8 = 0xd1;
pub(super) const ARRAY_8: u8 = 0xe0;
pub(super) const ARRAY_32: u8 = 0xf0;

/// Fewest bytes that one element of this code takes in an array; none for the codes that are
/// the whole value.
pub(super) const fn bytes_min(code: u8) -> usize {
    match code >> 4 {
        0x4 => 0,
        0x5 | 0xa => 1,
        0x6 | 0xc | 0xe => 2,
        0x7 | 0xb => 4,
        0x8 | 0xd | 0xf => 8,
        _ => 16,
    }
}
