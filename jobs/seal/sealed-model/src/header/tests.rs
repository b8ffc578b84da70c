use proptest::prelude::*;

use super::*;

fn file(json: &str, body: usize) -> Vec<u8> {
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.as_bytes());
    bytes.resize(bytes.len() + body, 7);
    bytes
}

fn refusal(json: &str, body: usize) -> String {
    Header::read(&file(json, body)).unwrap_err().to_string()
}

fn tensor(name: &str, begin: u64, end: u64) -> String {
    format!(
        r#""{name}":{{"dtype":"U8","shape":[{}],"data_offsets":[{begin},{end}]}}"#,
        end - begin
    )
}

#[test]
fn a_file_of_the_safetensors_library_is_read() {
    let data = [0_u8; 24];
    let view = |dtype, shape: &[usize]| {
        safetensors::tensor::TensorView::new(dtype, shape.to_vec(), &data).unwrap()
    };
    let tensors = [
        ("b", view(safetensors::Dtype::F32, &[2, 3])),
        ("a", view(safetensors::Dtype::F64, &[3])),
        ("é", view(safetensors::Dtype::U8, &[24])),
    ];
    let info = Some(std::collections::HashMap::from([(
        "format".to_owned(),
        "pt".to_owned(),
    )]));
    let bytes = safetensors::serialize(tensors, info).unwrap();
    let header = Header::read(&bytes).unwrap();
    let names: Vec<&str> = header
        .tensors()
        .iter()
        .map(|tensor| tensor.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b", "é"]);
    assert_eq!(header.metadata().unwrap()["format"], "pt");
    assert_eq!(
        framed(to_json(header.metadata().unwrap(), header.tensors())),
        bytes[..header.body_begin() as usize],
        "our form of a header is the library's"
    );
}

#[test]
fn a_file_truncated_anywhere_is_refused() {
    let json = format!("{{{},{}}}", tensor("a", 0, 3), tensor("b", 3, 8));
    let whole = file(&json, 8);
    Header::read(&whole).unwrap();
    for length in 0..whole.len() {
        assert!(Header::read(&whole[..length].to_vec()).is_err(), "{length}");
    }
}

#[test]
fn a_file_with_something_appended_is_refused() {
    let said = refusal(&format!("{{{}}}", tensor("a", 0, 3)), 4);
    assert!(
        said.contains("has something appended (the last tensor is `a`)"),
        "{said}"
    );
}

#[test]
fn a_header_over_the_limit_is_refused_before_it_is_read() {
    struct Endless;
    impl RangeRead for Endless {
        fn len(&self) -> u64 {
            FILE_BYTES_MAX
        }
        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
            assert_eq!(
                (buffer.len(), offset),
                (8, 0),
                "nothing but the length is read"
            );
            buffer.copy_from_slice(&(HEADER_BYTES_MAX + 1).to_le_bytes());
            Ok(())
        }
    }
    assert!(matches!(
        Header::read(&Endless),
        Err(HeaderError::TooLarge(_))
    ));
}

#[test]
fn overlapping_and_gapped_offsets_are_refused() {
    let overlap = format!("{{{},{}}}", tensor("a", 0, 4), tensor("b", 3, 8));
    assert!(refusal(&overlap, 8).contains("`b` begins at 3 where the one before ends at 4"));
    let gap = format!("{{{},{}}}", tensor("a", 0, 4), tensor("b", 5, 8));
    assert!(refusal(&gap, 8).contains("`b` begins at 5 where the one before ends at 4"));
    let late = format!("{{{}}}", tensor("a", 1, 4));
    assert!(refusal(&late, 4).contains("`a` begins at 1 where the one before ends at 0"));
    let backwards = r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[4,0]}}"#;
    assert!(matches!(
        Header::read(&file(backwards, 4)),
        Err(HeaderError::Length { .. })
    ));
}

#[test]
fn duplicates_are_refused() {
    let twice = format!("{{{},{}}}", tensor("a", 0, 4), tensor("a", 4, 8));
    assert!(matches!(
        Header::read(&file(&twice, 8)),
        Err(HeaderError::Duplicate(_))
    ));
    let metadata = r#"{"__metadata__":{"k":"1","k":"2"}}"#;
    assert!(matches!(
        Header::read(&file(metadata, 0)),
        Err(HeaderError::Duplicate(_))
    ));
    let metadata = r#"{"__metadata__":{},"__metadata__":{}}"#;
    assert!(matches!(
        Header::read(&file(metadata, 0)),
        Err(HeaderError::Json(_))
    ));
    let member = r#"{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#;
    assert!(matches!(
        Header::read(&file(member, 0)),
        Err(HeaderError::Json(_))
    ));
}

#[test]
fn a_length_that_type_and_shape_deny_is_refused() {
    let said = refusal(
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
        4,
    );
    assert_eq!(
        said,
        "tensor `a` needs 8 bytes by type and shape, but its offsets hold 4"
    );
}

#[test]
fn a_shape_that_overflows_is_refused() {
    let json = format!(
        r#"{{"a":{{"dtype":"F32","shape":[{},{}],"data_offsets":[0,0]}}}}"#,
        u64::MAX,
        u64::MAX
    );
    assert!(matches!(
        Header::read(&file(&json, 0)),
        Err(HeaderError::Size { .. })
    ));
}

#[test]
fn names_and_ranks_beyond_the_limits_are_refused() {
    for name in ["", "a\\u0000b", "a\\nb", &"n".repeat(513)] {
        let json = format!("{{{}}}", tensor(name, 0, 1));
        assert!(
            matches!(
                Header::read(&file(&json, 1)),
                Err(HeaderError::TensorName(_))
            ),
            "{name}"
        );
    }
    let json = r#"{"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}}"#;
    assert!(matches!(
        Header::read(&file(json, 1)),
        Err(HeaderError::Rank { rank: 9, .. })
    ));
}

#[test]
fn more_tensors_than_the_limit_are_refused() {
    let entry = |n: usize| format!(r#""{n}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
    let json = |n| format!("{{{}}}", (0..n).map(entry).collect::<Vec<_>>().join(","));
    assert!(Header::read(&file(&json(TENSORS_MAX), 0)).is_ok());
    let refused = Header::read(&file(&json(TENSORS_MAX + 1), 0));
    assert!(matches!(refused, Err(HeaderError::TooManyTensors(65_537))));
}

#[test]
fn unknown_types_and_members_are_refused() {
    for json in [
        r#"{"a":{"dtype":"F7","shape":[],"data_offsets":[0,1]}}"#,
        r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#,
        r#"{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}"#,
        r#"{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1],"more":1}}"#,
        r#"{"a":{"dtype":"U8","shape":[]}}"#,
        r#"{"__metadata__":{"a":1}}"#,
        r"[]",
        r"{} x",
    ] {
        assert!(
            matches!(Header::read(&file(json, 1)), Err(HeaderError::Json(_))),
            "{json}"
        );
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        drop(Header::read(&bytes));
        drop(Header::parse(&bytes));
    }

    #[test]
    fn a_header_with_one_byte_changed_never_panics(at in 0_usize..200, to: u8) {
        let json = format!("{{{},{}}}", tensor("a", 0, 3), tensor("b", 3, 8));
        let mut bytes = file(&json, 8);
        let at = at % bytes.len();
        bytes[at] = to;
        drop(Header::read(&bytes));
    }
}
