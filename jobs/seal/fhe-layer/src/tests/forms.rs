//! The forms that cross zones: facts, header, rows.

use proptest::prelude::*;

use super::meta;
use crate::{
    EncryptedRow, HeaderError, LayerHeader, LayerMeta, MAX_D_IN, MAX_D_OUT, MaskSeed, MetaError,
    ParameterSet, RowError, ScaleError, ScaleRange, Sums,
};

const META_JSON: &str = r#"{"layer":"head.weight","set":"P48B40","packing":"columns","d_in":384,"d_out":5000,"mask_seed":"BwcHBwcHBwcHBwcHBwcHBw==","scale":{"min":0.0010000000474974513,"max":0.10000000149011612},"norm_bound":6193536,"blocks":3}"#;

fn row(set: ParameterSet) -> EncryptedRow {
    let y = if set == ParameterSet::P48 {
        Sums::from_i128(vec![(1 << 68) - 1, -(1 << 68), -1])
    } else {
        Sums::from_i64(vec![i64::MAX, i64::MIN, -1])
    };
    EncryptedRow::from_parts(set, vec![1, -127, 0, 5], 0.25, y).unwrap()
}

#[test]
fn the_facts_of_a_layer_have_one_json_form() {
    let meta = meta(ParameterSet::P48B40, 384, 5000);
    assert_eq!(serde_json::to_string(&meta).unwrap(), META_JSON);
    assert_eq!(serde_json::from_str::<LayerMeta>(META_JSON).unwrap(), meta);
    assert_eq!((meta.blocks(), meta.body_shape()), (3, [384, 5000, 5]));
}

#[test]
fn facts_with_one_thing_spoiled_are_refused() {
    let spoiled = [
        ("\"d_in\":384", "\"d_in\":0", "inputs"),
        ("\"d_in\":384", "\"d_in\":8193", "inputs"),
        ("\"d_out\":5000", "\"d_out\":0", "outputs"),
        ("\"d_out\":5000", "\"d_out\":262145", "outputs"),
        ("\"d_in\":384", "\"d_in\":-1", "invalid value"),
        ("\"blocks\":3", "\"blocks\":2", "3 blocks, not 2"),
        ("6193536", "6193537", "norm bound"),
        ("6193536", "0", "norm bound"),
        ("P48B40", "P48B16", "unknown variant"),
        ("columns", "rows", "unknown variant"),
        (
            "BwcHBwcHBwcHBwcHBwcHBw==",
            "BwcHBwcHBwcHBwcHBwcHBw",
            "16 bytes",
        ),
        (
            "BwcHBwcHBwcHBwcHBwcHBw==",
            "BwcHBwcHBwcHBwcHBwcH",
            "16 bytes",
        ),
        ("0.10000000149011612", "0.1", "not an f32"),
        ("0.10000000149011612", "0.0001220703125", "0 < min"),
        ("0.0010000000474974513", "0.0", "0 < min"),
        ("0.0010000000474974513", "-0.5", "0 < min"),
        ("0.10000000149011612", "1e39", "not an f32"),
        ("head.weight", "", "1 to 512 bytes"),
        ("head.weight", "head\\n", "control"),
        ("\"blocks\":3", "\"blocks\":3,\"group\":1", "unknown field"),
        (",\"blocks\":3", "", "missing field"),
    ];
    for (from, to, fact) in spoiled {
        let json = META_JSON.replace(from, to);
        assert_ne!(json, META_JSON);
        let refusal = serde_json::from_str::<LayerMeta>(&json)
            .unwrap_err()
            .to_string();
        assert!(refusal.contains(fact), "{to}: {refusal}");
    }
}

#[test]
fn names_have_a_limit() {
    let facts = meta(ParameterSet::P48, 2, 2);
    let named = |name: &str| {
        let shape = (ParameterSet::P48, 2, 2);
        LayerMeta::new(name, shape, facts.mask_seed(), facts.scale(), 100).err()
    };
    assert_eq!(named(&"n".repeat(512)), None);
    assert_eq!(named(&"n".repeat(513)), Some(MetaError::Name));
}

#[test]
fn scale_ranges_are_positive_finite_and_not_upside_down() {
    assert!(ScaleRange::new(0.5, 0.5).is_ok());
    let bad = [
        (0.0, 1.0),
        (-1.0, 1.0),
        (1.0, 0.5),
        (1.0, f32::INFINITY),
        (f32::NAN, 1.0),
    ];
    for (min, max) in bad {
        assert_eq!(ScaleRange::new(min, max), Err(ScaleError::Range));
    }
    assert!(!ScaleRange::new(0.5, 1.0).unwrap().contains(f32::NAN));
}

#[test]
fn a_header_is_read_in_its_one_byte_form_only() {
    let one = meta(ParameterSet::P48B40, 384, 5000);
    let header = LayerHeader::new(vec![one.clone()]).unwrap();
    let text = header.to_json();
    assert_eq!(text, format!(r#"{{"format":1,"layers":[{META_JSON}]}}"#));
    assert_eq!(LayerHeader::parse(&text).unwrap(), header);
    assert_eq!(header.layers(), [one]);

    let other = text
        .replace("\"format\":1", "\"format\":2")
        .replace("blocks", "rows");
    assert!(matches!(
        LayerHeader::parse(&other),
        Err(HeaderError::Format { found: 2 })
    ));
    let spaced = text.replace(",\"layers\"", ", \"layers\"");
    assert!(matches!(
        LayerHeader::parse(&spaced),
        Err(HeaderError::ByteForm)
    ));
    let doubled = text.replace("\"d_in\":384", "\"d_in\":384,\"d_in\":384");
    assert!(matches!(
        LayerHeader::parse(&doubled),
        Err(HeaderError::Json(_))
    ));
    let surplus = text.replace("\"format\":1", "\"format\":1,\"also\":1");
    assert!(matches!(
        LayerHeader::parse(&surplus),
        Err(HeaderError::Json(_))
    ));
    for cut in [0, 1, text.len() - 1] {
        assert!(matches!(
            LayerHeader::parse(&text[..cut]),
            Err(HeaderError::Json(_))
        ));
    }
}

#[test]
fn headers_list_each_layer_once_in_order_under_its_own_seed() {
    let named = |name: &str, seed: u8| {
        let facts = meta(ParameterSet::P48, 2, 2);
        let seed = MaskSeed::from_bytes([seed; 16]);
        LayerMeta::new(name, (ParameterSet::P48, 2, 2), seed, facts.scale(), 100).unwrap()
    };
    let header = LayerHeader::new(vec![named("b", 1), named("a", 2)]).unwrap();
    assert_eq!(header.layers()[0].layer(), "a");

    let swapped = format!(
        r#"{{"format":1,"layers":[{},{}]}}"#,
        serde_json::to_string(&named("b", 1)).unwrap(),
        serde_json::to_string(&named("a", 2)).unwrap()
    );
    assert!(matches!(
        LayerHeader::parse(&swapped),
        Err(HeaderError::Order)
    ));
    let twice = LayerHeader::new(vec![named("a", 1), named("a", 2)]);
    assert!(matches!(twice, Err(HeaderError::Order)));
    let shared = LayerHeader::new(vec![named("a", 1), named("b", 1)]);
    assert!(matches!(shared, Err(HeaderError::RepeatedSeed)));
    assert!(matches!(
        LayerHeader::new(Vec::new()),
        Err(HeaderError::Count { found: 0 })
    ));
    let many = (0..65).map(|i| named(&format!("{i:02}"), i)).collect();
    assert!(matches!(
        LayerHeader::new(many),
        Err(HeaderError::Count { found: 65 })
    ));
}

#[test]
fn rows_have_one_wire_form() {
    let row = row(ParameterSet::P48B40);
    let mut expected = vec![
        1, 1, 4, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0x80, 0x3e, 1, 0x81, 0, 5,
    ];
    expected.extend(i64::MAX.to_le_bytes());
    expected.extend(i64::MIN.to_le_bytes());
    expected.extend((-1_i64).to_le_bytes());
    assert_eq!(row.encode(), expected);
}

#[test]
fn rows_read_again_are_equal() {
    for set in ParameterSet::ALL {
        let row = row(set);
        let bytes = row.encode();
        assert_eq!(bytes.len(), 14 + 4 + 3 * set.sum_bytes());
        assert!(EncryptedRow::decode(&bytes).unwrap() == row);
        let json = serde_json::to_string(&row).unwrap();
        assert!(serde_json::from_str::<EncryptedRow>(&json).unwrap() == row);
    }
}

#[test]
fn rows_with_one_thing_spoiled_are_refused() {
    let bytes = row(ParameterSet::P48B40).encode();
    for length in 0..bytes.len() {
        assert_eq!(
            EncryptedRow::decode(&bytes[..length]),
            Err(RowError::Length),
            "{length}"
        );
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(EncryptedRow::decode(&longer), Err(RowError::Length));

    let spoiled = |at: usize, value: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        EncryptedRow::decode(&bytes)
    };
    assert_eq!(spoiled(0, &[2]), Err(RowError::Format { found: 2 }));
    assert_eq!(spoiled(1, &[9]), Err(RowError::Set { code: 9 }));
    assert_eq!(
        spoiled(1, &[2]),
        Err(RowError::Length),
        "the set decides the width of Y"
    );
    assert_eq!(spoiled(2, &[0; 4]), Err(RowError::Shape));
    assert_eq!(
        spoiled(2, &(MAX_D_IN as u32 + 1).to_le_bytes()),
        Err(RowError::Shape)
    );
    assert_eq!(spoiled(6, &[0; 4]), Err(RowError::Shape));
    assert_eq!(
        spoiled(6, &(MAX_D_OUT as u32 + 1).to_le_bytes()),
        Err(RowError::Shape)
    );
    assert_eq!(spoiled(2, &[3]), Err(RowError::Length));
}

#[test]
fn sums_of_another_width_make_no_row() {
    let wide = Sums::from_i128(vec![1]);
    assert!(EncryptedRow::from_parts(ParameterSet::P48B40, vec![1], 1.0, wide).is_none());
    let narrow = Sums::from_i64(vec![1]);
    assert!(EncryptedRow::from_parts(ParameterSet::P48, vec![1], 1.0, narrow).is_none());
}

#[test]
fn rows_do_not_print_what_they_carry() {
    assert_eq!(
        format!("{:?}", row(ParameterSet::P48)),
        "EncryptedRow(P48, 4 → 3)"
    );
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>) {
        prop_assert!(EncryptedRow::decode(&bytes).is_err());
    }

    #[test]
    fn any_row_survives_its_wire_form(
        x in prop::collection::vec(any::<i8>(), 1..20),
        y in prop::collection::vec(-(1_i128 << 95)..(1 << 95), 1..20),
        s: f32,
    ) {
        let row = EncryptedRow::from_parts(ParameterSet::P48, x, s, Sums::from_i128(y)).unwrap();
        let again = EncryptedRow::decode(&row.encode()).unwrap();
        prop_assert!(again.x() == row.x() && again.y() == row.y());
        prop_assert_eq!(again.s().to_bits(), s.to_bits());
    }
}
