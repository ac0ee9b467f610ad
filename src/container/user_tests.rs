use super::*;
use crate::container::test_values::security;
use proptest::prelude::*;
use std::os::fd::AsFd as _;

const PASSWD_TEXT: &str = "root:x:0:0:root:/root:/bin/sh
# a comment
broken
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
app:x:1000:1001:App:/home/app:/bin/sh
nohome:x:2000:2000
";
const GROUP_TEXT: &str = "root:x:0:
daemon:x:1:
broken:x:
app:x:1001:
disk:x:6:daemon,app
video:x:44:app
";

fn lookup(security: &Security, image_user: &str) -> Result<ResolvedUser, UserError> {
    resolve(&Asked::new(security, image_user)?, security, PASSWD_TEXT, GROUP_TEXT)
}

#[test]
fn every_form_of_an_images_user_resolves() {
    // image user, uid, gid, all groups, home
    let rows: [(&str, u32, u32, &[u32], &str); 11] = [
        ("", 0, 0, &[0], "/root"),
        ("root", 0, 0, &[0], "/root"),
        ("app", 1000, 1001, &[1001, 6, 44], "/home/app"),
        ("app:video", 1000, 44, &[44, 6], "/home/app"),
        ("app:7", 1000, 7, &[7, 6, 44], "/home/app"),
        ("1000", 1000, 1001, &[1001, 6, 44], "/home/app"),
        ("1000:video", 1000, 44, &[44, 6], "/home/app"),
        ("1000:7", 1000, 7, &[7, 6, 44], "/home/app"),
        ("4242", 4242, 0, &[0], "/"),
        ("4242:4343", 4242, 4343, &[4343], "/"),
        ("nohome", 2000, 2000, &[2000], "/"),
    ];
    for (image_user, uid, gid, gids, home) in rows {
        let user = lookup(&security(), image_user).unwrap();
        assert_eq!((user.uid, user.gid), (uid, gid), "{image_user}");
        assert_eq!(user.additional_gids, gids, "{image_user}");
        assert_eq!(user.home, home, "{image_user}");
    }
}

#[test]
fn the_requests_user_replaces_the_images() {
    let rows: [(&str, RunAs, Option<u32>, u32, u32); 5] = [
        ("a uid", RunAs::Uid(1000), None, 1000, 1001),
        ("a uid and a group", RunAs::Uid(1000), Some(5), 1000, 5),
        ("a uid that passwd does not know", RunAs::Uid(9), None, 9, 0),
        ("a name", RunAs::Name("app".into()), None, 1000, 1001),
        ("a name and a group", RunAs::Name("app".into()), Some(5), 1000, 5),
    ];
    for (row, run_as, run_as_group, uid, gid) in rows {
        let asked = Security { run_as, run_as_group, ..security() };
        // The image's user does not matter, not even an unknown one.
        let user = lookup(&asked, "nobody:nogroup").unwrap();
        assert_eq!((user.uid, user.gid), (uid, gid), "{row}");
    }
}

#[test]
fn users_that_cannot_be_are_refused_with_their_name() {
    let group_only = Security { run_as_group: Some(5), ..security() };
    let number_as_name = Security { run_as: RunAs::Name("1000".into()), ..security() };
    let huge = Security { run_as: RunAs::Uid(u32::MAX), ..security() };
    let rows = [
        (security(), "ghost", "user \"ghost\" is not in the image's /etc/passwd"),
        (security(), "app:ghosts", "group \"ghosts\" is not in the image's /etc/group"),
        (security(), "app:", "the image's user \"app:\" is not of the form user[:group]"),
        (security(), ":app", "the image's user \":app\" is not of the form user[:group]"),
        (security(), "a:b:c", "the image's user \"a:b:c\" is not of the form user[:group]"),
        (security(), "4294967295", "user id 4294967295 is above 2147483647"),
        (security(), "99999999999999999999999", "user id 18446744073709551615 is above 2147483647"),
        (group_only, "app", "run_as_group 5 is given without run_as_user or run_as_username"),
        (number_as_name, "", "user \"1000\" is not in the image's /etc/passwd"),
        (huge, "", "user id 4294967295 is above 2147483647"),
    ];
    for (asked, image_user, expected) in rows {
        let error = lookup(&asked, image_user).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
}

#[test]
fn supplementary_groups_follow_the_policy() {
    let given = || Security { supplemental_groups: vec![44, 900, 900], ..security() };
    let merged = lookup(&given(), "app").unwrap();
    assert_eq!(merged.additional_gids, [1001, 6, 44, 900]);
    let strict = Security { groups_policy: GroupsPolicy::Strict, ..given() };
    assert_eq!(lookup(&strict, "app").unwrap().additional_gids, [1001, 44, 900]);
}

fn rootfs() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    dir
}

fn resolve_in(dir: &tempfile::TempDir, image_user: &str) -> Result<ResolvedUser, UserError> {
    let root = File::open(dir.path()).unwrap();
    resolve_user(root.as_fd(), &security(), image_user)
}

#[test]
fn an_image_without_passwd_still_runs_as_a_number() {
    let dir = rootfs();
    let user = resolve_in(&dir, "").unwrap();
    assert_eq!((user.uid, user.gid, user.home.as_str()), (0, 0, "/"));
    assert!(resolve_in(&dir, "app").is_err());
    std::fs::remove_dir(dir.path().join("etc")).unwrap();
    assert_eq!(resolve_in(&dir, "5:6").unwrap().gid, 6);
}

#[test]
fn a_link_to_the_hosts_passwd_finds_nothing_of_the_host() {
    let dir = rootfs();
    std::os::unix::fs::symlink("/etc/shadow-of-the-image", dir.path().join("etc/passwd")).unwrap();
    std::fs::write(dir.path().join("etc/shadow-of-the-image"), PASSWD_TEXT).unwrap();
    assert_eq!(resolve_in(&dir, "app").unwrap().uid, 1000);
    let dir = rootfs();
    std::os::unix::fs::symlink("../../../../../../etc/passwd", dir.path().join("etc/passwd"))
        .unwrap();
    // In the image the link points to itself.
    assert!(matches!(resolve_in(&dir, "root"), Err(UserError::Read { .. })));
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let dir = rootfs();
    nix::unistd::mkfifo(&dir.path().join("etc/passwd"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let error = resolve_in(&dir, "app").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(crate::error::chain(&error).contains("not a regular file"), "{error}");
    let dir = rootfs();
    std::fs::create_dir(dir.path().join("etc/group")).unwrap();
    assert!(resolve_in(&dir, "5").is_err());
}

#[test]
fn a_huge_passwd_is_refused() {
    let dir = rootfs();
    let file = File::create(dir.path().join("etc/passwd")).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(crate::error::chain(&resolve_in(&dir, "5").unwrap_err()).contains("1 MiB"));
}

proptest! {
    #[test]
    fn no_text_of_an_image_makes_the_lookup_panic(
        passwd in "[a-c:0-9,\n ]{0,80}", group in "[a-c:0-9,\n ]{0,80}", user in "[a-c:0-9]{0,12}"
    ) {
        if let Ok(asked) = Asked::new(&security(), &user)
            && let Ok(found) = resolve(&asked, &security(), &passwd, &group) {
                prop_assert_eq!(found.additional_gids[0], found.gid);
        }
    }
}
