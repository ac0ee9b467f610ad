//! Fixture folders stand in for cgroups.

use super::*;
use std::fs;

fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Dir) {
    let temp = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(temp.path().join(name), text).unwrap();
    }
    let dir = Dir::open(temp.path()).unwrap();
    (temp, dir)
}

#[test]
fn an_empty_cgroup_has_no_figures_and_no_error() {
    let (_temp, dir) = folder(&[]);
    let stats = read_stats(&dir, 7).unwrap();
    assert_eq!(stats, CgroupStats { timestamp_nanos: 7, ..CgroupStats::default() });
}

#[test]
fn every_file_of_the_kernel_becomes_its_figure() {
    let (_temp, dir) = folder(&[
        (
            "cpu.stat",
            "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 3\n\
             throttled_usec 99\nnr_bursts 0\n",
        ),
        ("memory.current", "1000\n"),
        ("memory.stat", "anon 300\nfile 600\ninactive_file 400\npgfault 11\npgmajfault 2\n"),
        ("memory.peak", "2000\n"),
        ("memory.max", "4096\n"),
        ("memory.swap.current", "5\n"),
        ("memory.swap.max", "max\n"),
        (
            "memory.events",
            "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 5\nsock_throttled 0\n",
        ),
        ("pids.current", "3\n"),
        ("pids.max", "max\n"),
        (
            "io.stat",
            "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 \n254:0 rbytes=5 rios=1\n",
        ),
        ("cpu.pressure", "some avg10=0.10 avg60=0.00 avg300=0.00 total=5\n"),
        (
            "memory.pressure",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n\
             full avg10=2.00 avg60=0.00 avg300=0.00 total=9\n",
        ),
    ]);
    let stats = read_stats(&dir, 0).unwrap();
    let cpu = stats.cpu.unwrap();
    assert_eq!((cpu.usage_usec, cpu.user_usec, cpu.system_usec), (30, 20, 10));
    assert_eq!((cpu.nr_periods, cpu.nr_throttled, cpu.throttled_usec), (4, 3, 99));
    let memory = stats.memory.unwrap();
    assert_eq!((memory.current, memory.working_set, memory.rss), (1000, 600, 300));
    assert_eq!((memory.page_faults, memory.major_page_faults), (11, 2));
    assert_eq!((memory.peak, memory.limit), (Some(2000), Some(Limit::Value(4096))));
    assert_eq!((memory.swap, memory.swap_limit), (Some(5), Some(Limit::Max)));
    assert_eq!((memory.events.oom_kill, memory.events.oom_group_kill), (4, 5));
    assert_eq!(stats.pids.unwrap(), PidsStats { current: 3, max: Some(Limit::Max) });
    let io = stats.io.unwrap();
    assert_eq!((io.read_bytes, io.write_bytes, io.read_ops, io.write_ops), (15, 20, 2, 2));
    assert_eq!(stats.cpu_pressure.unwrap().some.total_usec, 5);
    assert_eq!(stats.memory_pressure.unwrap().full.total_usec, 9);
    assert_eq!(stats.io_pressure, None);
}

#[test]
fn more_inactive_file_pages_than_memory_make_a_working_set_of_zero() {
    let (_temp, dir) = folder(&[("memory.current", "10\n"), ("memory.stat", "inactive_file 50\n")]);
    assert_eq!(read_memory(&dir).unwrap().unwrap().working_set, 0);
}

#[test]
fn a_file_that_reads_oddly_is_named_with_its_line() {
    for (name, text) in [
        ("cpu.stat", "usage_usec -3\n"),
        ("io.stat", "8:0 rbytes\n"),
        ("io.pressure", "none avg10=0\n"),
        ("pids.current", "many\n"),
    ] {
        let (_temp, dir) = folder(&[(name, text)]);
        let message = read_stats(&dir, 0).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains(text.trim()), "{message}");
    }
}
