use super::*;
use std::io::Write as _;

fn lines(reader: &mut LogReader) -> Vec<String> {
    let mut all = Vec::new();
    reader
        .read_lines(|line| {
            all.push(String::from_utf8_lossy(parse_line(line).text).into_owned());
            Ok(())
        })
        .unwrap();
    all
}

fn line(tag: &str, text: &str) -> String {
    format!("2024-01-01T00:00:00.000000000Z stdout {tag} {text}\n")
}

fn append(path: &Path, text: &str) {
    let mut file = File::options().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn lines_are_taken_apart() {
    let time = &b"2024-01-01T00:00:00Z"[..];
    let entry =
        |stream, full, text: &'static str| Entry { time, stream, full, text: text.as_bytes() };
    for (text, expected) in [
        ("2024-01-01T00:00:00Z stdout F hello  world", entry(Stream::Out, true, "hello  world")),
        ("2024-01-01T00:00:00Z stderr P part", entry(Stream::Err, false, "part")),
        ("2024-01-01T00:00:00Z stdout F:x tagged", entry(Stream::Out, true, "tagged")),
        ("2024-01-01T00:00:00Z stdout F ", entry(Stream::Out, true, "")),
        ("2024-01-01T00:00:00Z stdout F", entry(Stream::Out, true, "")),
    ] {
        assert_eq!(parse_line(text.as_bytes()), expected, "{text}");
    }
    let odd = parse_line(b"not a log line");
    assert_eq!((odd.full, odd.text), (true, &b"not a log line"[..]));
}

#[test]
fn what_is_added_is_read_once_and_by_whole_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    append(&path, &line("F", "one"));
    let mut reader = LogReader::open(&path, None).unwrap();
    assert_eq!(lines(&mut reader), ["one"]);
    assert_eq!(lines(&mut reader), Vec::<String>::new());
    let two = line("F", "two");
    let (begin, end) = two.split_at(40);
    append(&path, begin);
    assert_eq!(lines(&mut reader), Vec::<String>::new());
    append(&path, end);
    assert_eq!(lines(&mut reader), ["two"]);
}

#[test]
fn an_unended_line_is_read_at_the_end_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    append(&path, line("F", "cut").trim_end());
    let mut reader = LogReader::open(&path, None).unwrap();
    assert_eq!(lines(&mut reader), Vec::<String>::new());
    let mut rest = Vec::new();
    let mut take = |line: &[u8]| {
        rest.push(String::from_utf8_lossy(parse_line(line).text).into_owned());
        Ok(())
    };
    reader.read_rest(&mut take).unwrap();
    reader.read_rest(&mut take).unwrap();
    assert_eq!(rest, ["cut"]);
}

#[test]
fn the_tail_counts_the_containers_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let text = [line("F", "1"), line("P", "2a"), line("P", "2b"), line("F", "2c"), line("F", "3")];
    append(&path, &text.concat());
    for (tail, expected) in [
        (Some(0), vec![]),
        (Some(1), vec!["3"]),
        (Some(2), vec!["2a", "2b", "2c", "3"]),
        (Some(3), vec!["1", "2a", "2b", "2c", "3"]),
        (Some(99), vec!["1", "2a", "2b", "2c", "3"]),
        (None, vec!["1", "2a", "2b", "2c", "3"]),
    ] {
        let mut reader = LogReader::open(&path, tail).unwrap();
        assert_eq!(lines(&mut reader), expected, "{tail:?}");
    }
}

#[test]
fn the_tail_of_a_long_log_is_found_beyond_the_first_block() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let text: String = (0..5000).map(|n| line("F", &format!("{n:0100}"))).collect();
    append(&path, &text);
    let mut reader = LogReader::open(&path, Some(3000)).unwrap();
    let seen = lines(&mut reader);
    assert_eq!(seen.len(), 3000);
    assert_eq!(seen[0], format!("{:0100}", 2000));
    // A line longer than a block.
    let long = dir.path().join("1.log");
    append(&long, &(line("F", "x") + &line("F", &"y".repeat(3 * BLOCK))));
    assert_eq!(lines(&mut LogReader::open(&long, Some(1)).unwrap()).len(), 1);
}

#[test]
fn a_rotation_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old) = (dir.path().join("0.log"), dir.path().join("0.log.1"));
    append(&path, &line("F", "1"));
    let mut reader = LogReader::open(&path, None).unwrap();
    assert_eq!(lines(&mut reader), ["1"]);
    std::fs::rename(&path, &old).unwrap();
    assert!(!reader.turn(true).unwrap(), "there is no new file yet");
    append(&path, &line("F", "3"));
    // The writer has not turned yet: this still goes to the old file.
    append(&old, &line("F", "2"));
    assert_eq!(lines(&mut reader), ["2"]);
    assert!(!reader.turn(false).unwrap(), "the old file was busy a moment ago");
    assert!(reader.turn(true).unwrap());
    assert_eq!(lines(&mut reader), ["3"]);
    assert!(!reader.turn(true).unwrap(), "it is the same file now");
}

#[test]
fn a_log_that_was_emptied_in_place_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    append(&path, &(line("F", "a long first line") + &line("F", "2")));
    let mut reader = LogReader::open(&path, None).unwrap();
    assert_eq!(lines(&mut reader).len(), 2);
    File::create(&path).unwrap();
    append(&path, &line("F", "new"));
    assert_eq!(lines(&mut reader), ["new"]);
}

/// Renames the log, as its rotation does it.
fn rotate(path: &Path, stamp: &str) {
    std::fs::rename(path, path.with_file_name(format!("0.log.{stamp}"))).unwrap();
}

/// Compresses an older file, as its rotation does it.
fn compress(path: &Path, stamp: &str) {
    let plain = path.with_file_name(format!("0.log.{stamp}"));
    let packed = File::create(path.with_file_name(format!("0.log.{stamp}.gz"))).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
    encoder.write_all(&std::fs::read(&plain).unwrap()).unwrap();
    encoder.finish().unwrap();
    std::fs::remove_file(plain).unwrap();
}

/// Reads everything up to the newest file.
fn all_lines(reader: &mut LogReader) -> Vec<String> {
    let mut all = lines(reader);
    while reader.turn(true).unwrap() {
        all.extend(lines(reader));
    }
    all
}

#[test]
fn several_rotations_between_two_looks_lose_and_double_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    append(&path, &line("F", "1"));
    let mut reader = LogReader::open(&path, None).unwrap();
    assert_eq!(lines(&mut reader), ["1"]);
    append(&path, &line("F", "2"));
    for (stamp, text) in [("20260101-1", "3"), ("20260101-2", "4"), ("20260101-3", "5")] {
        rotate(&path, stamp);
        append(&path, &line("F", text));
    }
    compress(&path, "20260101-2");
    assert_eq!(all_lines(&mut reader), ["2", "3", "4", "5"]);
    assert_eq!(all_lines(&mut reader), Vec::<String>::new());
    rotate(&path, "20260101-4");
    compress(&path, "20260101-3");
    append(&path, &line("F", "6"));
    assert_eq!(all_lines(&mut reader), ["6"]);
}

#[test]
fn a_file_that_is_compressed_or_removed_while_it_is_read_is_read_on_and_left_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    append(&path, &(line("F", "1") + &line("F", "2")));
    let mut reader = LogReader::open(&path, None).unwrap();
    rotate(&path, "20260101-1");
    append(&path, &line("F", "3"));
    assert!(!reader.turn(true).unwrap(), "it is not read yet");
    compress(&path, "20260101-1");
    rotate(&path, "20260101-2");
    append(&path, &line("F", "4"));
    std::fs::remove_file(path.with_file_name("0.log.20260101-1.gz")).unwrap();
    assert_eq!(all_lines(&mut reader), ["1", "2", "3", "4"]);
}

#[test]
fn the_whole_log_begins_with_its_oldest_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    append(&path, &line("F", "1"));
    for (stamp, text) in [("20260101-1", "2"), ("20260101-2", "3")] {
        rotate(&path, stamp);
        append(&path, &line("F", text));
    }
    compress(&path, "20260101-1");
    assert_eq!(all_lines(&mut LogReader::open_oldest(&path).unwrap()), ["1", "2", "3"]);
    std::fs::remove_file(path.with_file_name("0.log.20260101-1.gz")).unwrap();
    assert_eq!(all_lines(&mut LogReader::open_oldest(&path).unwrap()), ["2", "3"]);
}

#[test]
fn a_line_that_was_torn_by_a_rotation_does_not_swallow_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    append(&path, line("F", "torn").trim_end());
    let mut reader = LogReader::open(&path, None).unwrap();
    assert_eq!(lines(&mut reader), Vec::<String>::new());
    rotate(&path, "20260101-1");
    append(&path, &line("F", "next"));
    assert_eq!(all_lines(&mut reader), ["torn", "next"]);
}
