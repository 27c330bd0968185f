use proptest::prelude::*;

use super::*;
use crate::amqp::encode;
use crate::amqp::testing::bytes;

fn encoded(value: &Value) -> Bytes {
    let mut out = Vec::new();
    encode(value, &mut out);
    out.into()
}

fn skipped(bytes: &Bytes) -> Result<usize, Malformed> {
    let mut reader = Reader::new(bytes);
    reader.skip().map(|()| reader.at())
}

/// `hex` is this value, and the walk past it ends where it ends.
fn reads(hex: &str, value: &Value) {
    let input = bytes(hex);
    assert_eq!(decode(&input).as_ref(), Ok(value), "{hex}");
    assert_eq!(skipped(&input), Ok(input.len()), "{hex}");
    assert_eq!(decode(&encoded(value)).as_ref(), Ok(value), "{hex}");
}

/// `hex` is this value, and this is how it is written too.
fn is(hex: &str, value: Value) {
    reads(hex, &value);
    assert_eq!(encoded(&value), bytes(hex), "{hex}");
}

fn refused(input: &Bytes) -> &'static str {
    let refused = decode(input).unwrap_err();
    assert_eq!(refused.condition, condition::DECODE_ERROR, "{refused}");
    // Bytes behind a value are for whoever walks to judge.
    if refused.what != "bytes behind the value" {
        assert_eq!(skipped(input), Err(refused));
    }
    refused.what
}

fn symbol(text: &'static str) -> Value {
    Value::Symbol(Symbol::from_static(text))
}

fn array(kind: Kind, elements: Vec<Value>) -> Value {
    Array::new(kind, elements).unwrap().into()
}

#[test]
fn every_type_in_its_smallest_form() {
    is("40", Value::Null);
    is("41", Value::Boolean(true));
    is("42", Value::Boolean(false));
    is("50 ff", Value::Ubyte(255));
    is("60 0102", Value::Ushort(0x102));
    is("43", Value::Uint(0));
    is("52 ff", Value::Uint(255));
    is("70 00000100", Value::Uint(256));
    is("44", Value::Ulong(0));
    is("53 01", Value::Ulong(1));
    is("80 0000000000000100", Value::Ulong(256));
    is("51 ff", Value::Byte(-1));
    is("61 fffe", Value::Short(-2));
    is("54 80", Value::Int(-128));
    is("71 ffffff7f", Value::Int(-129));
    is("55 7f", Value::Long(127));
    is("81 0000000000000080", Value::Long(128));
    is("72 7fc00001", Value::Float(0x7fc0_0001));
    is("82 3ff0000000000000", Value::Double(1f64.to_bits()));
    is("74 01020304", Value::Decimal32([1, 2, 3, 4]));
    is(
        "84 0102030405060708",
        Value::Decimal64([1, 2, 3, 4, 5, 6, 7, 8]),
    );
    is("94 00000000000000000000000000000009", {
        let mut decimal = [0; 16];
        decimal[15] = 9;
        Value::Decimal128(decimal)
    });
    is("73 0001f600", Value::Char('😀'));
    is(
        "83 ffffc77cedd32800",
        Value::Timestamp(Timestamp(-62_135_596_800_000)),
    );
    is("98 000102030405060708090a0b0c0d0e0f", {
        Value::Uuid(Uuid(std::array::from_fn(|at| at as u8)))
    });
    is("a0 02 00ff", Value::Binary(Bytes::from_static(b"\0\xff")));
    is("a1 03 c3a461", "äa".into());
    is("a3 02 6162", symbol("ab"));
    is("45", Value::List(Vec::new()));
    is(
        "c0 03 02 40 41",
        Value::List(vec![Value::Null, Value::Boolean(true)]),
    );
    is("c1 01 00", Value::Map(Map::default()));
    is(
        "c1 06 02 a1 01 61 52 07",
        Value::Map(Map(vec![("a".into(), Value::Uint(7))])),
    );
    is(
        "00 53 75 a0 00",
        Value::described(Value::Ulong(0x75), Value::Binary(Bytes::new())),
    );
}

#[test]
fn every_longer_form_is_the_same_value() {
    reads("56 01", &Value::Boolean(true));
    reads("56 00", &Value::Boolean(false));
    reads("52 00", &Value::Uint(0));
    reads("70 00000007", &Value::Uint(7));
    reads("53 00", &Value::Ulong(0));
    reads("80 0000000000000007", &Value::Ulong(7));
    reads("71 ffffffff", &Value::Int(-1));
    reads("81 ffffffffffffffff", &Value::Long(-1));
    reads(
        "b0 00000001 07",
        &Value::Binary(Bytes::from_static(b"\x07")),
    );
    reads("b1 00000000", &"".into());
    reads("b3 00000001 61", &symbol("a"));
    reads("c0 01 00", &Value::List(Vec::new()));
    reads("d0 00000005 00000001 40", &Value::List(vec![Value::Null]));
    reads(
        "d1 00000006 00000002 40 40",
        &Value::Map(Map(vec![(Value::Null, Value::Null)])),
    );
    reads(
        "f0 00000006 00000001 50 07",
        &array(Kind::Ubyte, vec![Value::Ubyte(7)]),
    );
}

#[test]
fn an_array_has_one_constructor() {
    is(
        "e0 06 02 a3 01 61 01 62",
        array(Kind::Symbol, vec![symbol("a"), symbol("b")]),
    );
    is("e0 02 00 70", array(Kind::Uint, Vec::new()));
    is("e0 0a 02 70 00000001 00000100", {
        array(Kind::Uint, vec![Value::Uint(1), Value::Uint(256)])
    });
    is("e0 04 02 56 01 00", {
        array(
            Kind::Boolean,
            vec![Value::Boolean(true), Value::Boolean(false)],
        )
    });
    reads(
        "e0 04 02 54 01 ff",
        &array(Kind::Int, vec![Value::Int(1), Value::Int(-1)]),
    );
    // Lists, maps and arrays in arrays.
    let lists = vec![Value::List(Vec::new()), Value::List(vec![Value::Null])];
    is(
        "e0 13 02 d0 00000004 00000000 00000005 00000001 40",
        array(Kind::List, lists.clone()),
    );
    reads("e0 07 02 c0 01 00 02 01 40", &array(Kind::List, lists));
    reads(
        "e0 04 01 c1 01 00",
        &array(Kind::Map, vec![Value::Map(Map::default())]),
    );
    reads("e0 05 01 e0 02 00 40", &{
        array(Kind::Array, vec![array(Kind::Null, Vec::new())])
    });
    // All described by the same two descriptors, and none that is.
    let descriptors = vec![Value::Ulong(1), symbol("x")];
    let described = |elements| {
        Value::from(Array::described(descriptors.clone(), Kind::Ubyte, elements).unwrap())
    };
    is(
        "e0 0a 01 00 53 01 00 a3 01 78 50 07",
        described(vec![Value::Ubyte(7)]),
    );
    is("e0 09 00 00 53 01 00 a3 01 78 50", described(Vec::new()));
    assert_eq!(Array::new(Kind::Uint, vec![Value::Ulong(1)]), None);
    assert_eq!(Array::new(Kind::Described, Vec::new()), None);
}

#[test]
fn sizes_change_their_width_where_they_must() {
    for length in [0, 1, 253, 254, 255, 256, 257, 70_000] {
        let text = "x".repeat(length);
        let values = [
            Value::Binary(text.clone().into()),
            Value::String(text.clone().into()),
            Value::Symbol(Symbol::from_ascii(text.clone().into()).unwrap()),
            Value::List(vec![Value::Null; length.min(60_000)]),
            Value::List(vec![text.as_str().into()]),
            Value::Map(Map(vec![(Value::Null, Value::Null); length.min(300)])),
            array(Kind::Ubyte, vec![Value::Ubyte(1); length.min(60_000)]),
            array(Kind::String, vec!["".into(), text.as_str().into()]),
        ];
        for value in values {
            assert_eq!(decode(&encoded(&value)), Ok(value));
        }
    }
}

#[test]
fn what_is_no_value_is_refused() {
    const BEYOND: &str = "a size beyond the bytes that are there";
    const ENDS: &str = "the value ends before its size";
    const COUNT: &str = "a count beyond the bytes that are there";
    const SIZE: &str = "the size is not that of the elements";
    const CODE: &str = "a format code that no type has";
    for (hex, what) in [
        ("", ENDS),
        ("4040", "bytes behind the value"),
        ("3f", CODE),
        ("46", CODE),
        ("ff", CODE),
        ("50", ENDS),
        ("70 000001", ENDS),
        ("98 00010203040506070809", ENDS),
        ("56 02", "a boolean that is neither 0 nor 1"),
        ("73 0000d800", "a char that Unicode has not"),
        ("73 00110000", "a char that Unicode has not"),
        ("a1 01 ff", "a string that is not UTF-8"),
        ("a3 02 c3a4", "a symbol that is not ASCII"),
        ("a0 01", BEYOND),
        ("b0 ffffffff 00", BEYOND),
        ("b1 80000000", BEYOND),
        ("00", ENDS),
        ("00 53 75", ENDS),
        // Sizes and counts that are not each other's.
        ("c0 00", ENDS),
        ("c0 02 00 40", SIZE),
        ("c0 02 01 50 00", ENDS),
        ("c0 03 02 40", BEYOND),
        ("c0 02 02 40", COUNT),
        ("c0 03 02 a0 01 00 40", BEYOND),
        ("d0 00000004 ffffffff", COUNT),
        ("d0 ffffffff ffffffff", BEYOND),
        ("d0 00000003 000000", ENDS),
        ("c1 02 01 40", "a map with a key that has no value"),
        ("d1 00000004 fffffffe", COUNT),
        ("e0 01 00", ENDS),
        ("e0 02 01 50", COUNT),
        ("e0 03 00 50 00", SIZE),
        ("e0 02 00 46", CODE),
        ("f0 0000000d ffffffff 80 0102030405060708", COUNT),
        ("e0 03 01 00 53", ENDS),
        // A list within a list that would end behind it.
        ("c0 04 01 c0 03 01 40 40 40", BEYOND),
    ] {
        assert_eq!(refused(&bytes(hex)), what, "{hex}");
    }
}

#[test]
fn elements_without_bytes_have_an_allowance() {
    for code in [
        code::NULL,
        code::TRUE,
        code::FALSE,
        code::UINT_0,
        code::ULONG_0,
        code::LIST_0,
    ] {
        let many = |count: u32| {
            let head = [&[code::ARRAY_32, 0, 0, 0, 5], &count.to_be_bytes()[..]];
            Bytes::from([&head.concat()[..], &[code]].concat())
        };
        let most = u32::try_from(EMPTY_ELEMENTS).unwrap();
        for count in [0, 3, most] {
            let value = decode(&many(count)).unwrap();
            assert!(
                matches!(&value, Value::Array(array) if array.elements().len() == count as usize)
            );
            assert_eq!(decode(&encoded(&value)), Ok(value));
        }
        for count in [most + 1, u32::MAX] {
            let refused = decode(&many(count)).unwrap_err();
            assert_eq!(refused.condition, condition::RESOURCE_LIMIT_EXCEEDED);
            assert_eq!(skipped(&many(count)), Err(refused));
        }
        // The allowance is one for all arrays of a value.
        let half = [code::ARRAY_8, 2, 129, code];
        let twice = [&[code::LIST_8, 9, 2], &half[..], &half].concat();
        assert!(decode(&twice.into()).is_err());
    }
}

/// Lists, maps, arrays and both sides of a descriptor, nested so deep around a null.
fn nested(depth: usize) -> [Vec<u8>; 5] {
    let wide = |code: u8, count: u32, before: &[u8], inner: &[u8]| {
        let size = (4 + before.len() + inner.len()) as u32;
        [
            &[code][..],
            &size.to_be_bytes(),
            &count.to_be_bytes(),
            before,
            inner,
        ]
        .concat()
    };
    let mut all = [(); 5].map(|()| vec![code::NULL]);
    // An array's elements have no constructor of their own.
    all[2] = wide(code::ARRAY_32, 0, &[], &[code::NULL]);
    for level in 0..depth {
        all[0] = wide(code::LIST_32, 1, &[], &all[0]);
        all[1] = wide(code::MAP_32, 2, &[code::NULL], &all[1]);
        if level > 0 {
            all[2] = wide(code::ARRAY_32, 1, &[code::ARRAY_32], &all[2][1..]);
        }
        all[3] = [&[code::DESCRIBED, code::NULL], &all[3][..]].concat();
        all[4] = [&[code::DESCRIBED], &all[4][..], &[code::NULL]].concat();
    }
    all
}

#[test]
fn nesting_has_an_end() {
    for value in nested(limits::NESTING_DEPTH) {
        let value = Bytes::from(value);
        let decoded = decode(&value).unwrap();
        assert_eq!(skipped(&value), Ok(value.len()));
        assert_eq!(decode(&encoded(&decoded)), Ok(decoded));
    }
    let deeper = nested(limits::NESTING_DEPTH + 1);
    let deepest = nested(2_000);
    let described = vec![code::DESCRIBED; 1 << 20];
    let descriptors = [
        &[code::ARRAY_32, 0, 0x10, 0, 4, 0, 0, 0, 0][..],
        &[code::DESCRIBED, code::NULL].repeat(1 << 19),
    ];
    let hostile = [described, descriptors.concat()];
    for value in deeper.into_iter().chain(deepest).chain(hostile) {
        let value = Bytes::from(value);
        let refused = decode(&value).unwrap_err();
        assert_eq!(refused.condition, condition::RESOURCE_LIMIT_EXCEEDED);
        assert_eq!(skipped(&value), Err(refused));
    }
}

#[test]
fn what_lies_side_by_side_is_not_nested() {
    let mut all = nested(2).to_vec();
    // An array of described elements.
    all.push(bytes("e0 08 01 00 53 01 00 40 50 07").to_vec());
    all.push(vec![code::LIST_0]);
    for value in all {
        let many = value.repeat(100);
        let size = (many.len() as u32 + 4).to_be_bytes();
        let list = [&[code::LIST_32][..], &size, &100_u32.to_be_bytes(), &many].concat();
        let list = Bytes::from(list);
        assert!(matches!(decode(&list), Ok(Value::List(values)) if values.len() == 100));
        assert_eq!(skipped(&list), Ok(list.len()));
    }
}

#[test]
fn elements_have_a_limit_that_walking_past_them_has_not() {
    let most = encoded(&Value::List(vec![Value::Null; limits::AMQP_ELEMENTS - 1]));
    assert!(decode(&most).is_ok());
    for more in [
        Value::List(vec![Value::Null; limits::AMQP_ELEMENTS]),
        Value::List(vec![Value::List(vec![Value::Null; 300]); 300]),
        array(Kind::Ubyte, vec![Value::Ubyte(1); limits::AMQP_ELEMENTS]),
    ] {
        let more = encoded(&more);
        let refused = decode(&more).unwrap_err();
        assert_eq!(refused.condition, condition::RESOURCE_LIMIT_EXCEEDED);
        assert_eq!(skipped(&more), Ok(more.len()));
    }
}

#[test]
fn a_value_is_no_larger_than_it_says() {
    assert_eq!(size_of::<Value>(), 40);
}

#[test]
fn payloads_are_slices_of_the_input() {
    let input = bytes("c0 0b 03 a0 02 0102 a1 01 61 a3 01 62");
    let Ok(Value::List(list)) = decode(&input) else {
        panic!("a list");
    };
    let range = input.as_ptr_range();
    for value in &list {
        let bytes = match value {
            Value::Binary(bytes) => bytes,
            Value::String(text) => text.as_bytes(),
            Value::Symbol(symbol) => symbol.as_bytes(),
            _ => panic!("not of this list"),
        };
        assert!(range.contains(&bytes.as_ptr()));
    }
}

#[test]
fn what_sdks_mix_up_is_looked_through() {
    let map = Map(vec![
        (symbol("a"), Value::Uint(1)),
        (
            "b".into(),
            Value::described(Value::Ulong(0x13_7000_000c), "s".into()),
        ),
        ("a".into(), Value::Uint(2)),
    ]);
    assert_eq!(map.get("a"), Some(&Value::Uint(1)));
    assert_eq!(
        map.get("b")
            .and_then(|filter| filter.undescribed().as_str()),
        Some("s")
    );
    assert_eq!(map.get("c"), None);
    let mut changed = map;
    changed.set(Symbol::from_static("b"), Value::Null);
    changed.set(Symbol::from_static("c"), Value::Long(-1));
    assert_eq!(changed.get("b"), Some(&Value::Null));
    assert_eq!(changed.get("c").and_then(Value::as_integer), Some(-1));
}

fn scalars() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<u8>().prop_map(Value::Ubyte),
        any::<u16>().prop_map(Value::Ushort),
        prop_oneof![0..300u32, any::<u32>()].prop_map(Value::Uint),
        prop_oneof![0..300u64, any::<u64>()].prop_map(Value::Ulong),
        any::<i8>().prop_map(Value::Byte),
        any::<i16>().prop_map(Value::Short),
        prop_oneof![-200..200i32, any::<i32>()].prop_map(Value::Int),
        prop_oneof![-200..200i64, any::<i64>()].prop_map(Value::Long),
        any::<u32>().prop_map(Value::Float),
        any::<u64>().prop_map(Value::Double),
        any::<char>().prop_map(Value::Char),
        any::<i64>().prop_map(|at| Value::Timestamp(Timestamp(at))),
        any::<[u8; 16]>().prop_map(|bytes| Value::Uuid(Uuid(bytes))),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| Value::Binary(bytes.into())),
        ".{0,200}".prop_map(|text| text.as_str().into()),
        "[ -~]{0,300}".prop_map(|text| Value::Symbol(Symbol::from_ascii(text.into()).unwrap())),
    ]
}

fn values() -> impl Strategy<Value = Value> {
    scalars().prop_recursive(4, 64, 8, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..8);
        prop_oneof![
            list.clone().prop_map(Value::List),
            prop::collection::vec((inner.clone(), inner.clone()), 0..8)
                .prop_map(|entries| Value::Map(Map(entries))),
            (inner.clone(), inner).prop_map(|(by, value)| Value::described(by, value)),
            (list.clone(), list).prop_map(|(descriptors, mut elements)| {
                let kind = elements.first().map_or(Kind::Long, Value::kind);
                elements.retain(|element| element.kind() == kind);
                let array = Array::described(descriptors, kind, elements);
                array.map_or(Value::Null, Value::from)
            }),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(value in values()) {
        let whole = encoded(&value);
        prop_assert_eq!(decode(&whole), Ok(value));
        prop_assert_eq!(skipped(&whole), Ok(whole.len()));
        for cut in 0..whole.len() {
            let cut = whole.slice(..cut);
            prop_assert!(decode(&cut).is_err());
            prop_assert!(skipped(&cut).is_err());
        }
    }
}
