//! Collection over a real store: what containers use and what is pinned stays, the rest goes by age.

use super::fixtures::{Made, Tar, World, block_on, gzip, make, write_layout};
use super::{Goal, Pretend, Prune, Pruned, Which};
use crate::config::ImageConfig;
use crate::ids::{ContainerId, ImageId, random_hex};
use std::fs::File;
use std::time::{Duration, SystemTime};

const ALL: Prune = Prune { which: Which::Unused, older_than: Duration::ZERO, goal: Goal::All };

fn import(world: &World, name: &str, made: &Made) -> ImageId {
    let dir = world.path(&format!("layout-{}", random_hex().unwrap()));
    write_layout(&dir, &[(name, made)]);
    block_on(world.images.import(&dir, None)).unwrap().remove(0).id
}

fn of(marker: &str) -> Made {
    make(&[Tar::new().file("base", "b").build(), Tar::new().file(marker, "").build()], gzip)
}

fn prune(world: &World, rule: Prune, pretend: Pretend) -> Pruned {
    block_on(world.images.prune(rule, pretend)).unwrap()
}

fn ids(pruned: &Pruned) -> Vec<ImageId> {
    pruned.images.iter().map(|image| image.id.clone()).collect()
}

/// Makes an image look as if it was last used so long ago. Seen after a restart.
fn age(world: &World, id: &ImageId, hours: u64) {
    let record = world.layout.images().join(format!("records/{id}.json"));
    let then = SystemTime::now() - Duration::from_secs(hours * 3600);
    File::open(record).unwrap().set_modified(then).unwrap();
}

#[test]
fn images_of_containers_and_volumes_and_pinned_ones_are_never_collected() {
    let config = ImageConfig { pinned: vec!["pinned.test/*".into()], ..ImageConfig::default() };
    let world = World::with(&config);
    let pinned = import(&world, "pinned.test/x:1", &of("pinned"));
    let used = import(&world, "used.test/x:1", &of("used"));
    let volume = import(&world, "volume.test/x:1", &of("volume"));
    let idle = import(&world, "idle.test/x:1", &of("idle"));
    let told: Vec<ImageId> =
        world.images.list().into_iter().filter(|i| i.pinned).map(|i| i.id).collect();
    assert_eq!(told, std::slice::from_ref(&pinned));
    let c = ContainerId::parse(&random_hex().unwrap()).unwrap();
    world.images.prepare_snapshot(&used, &c, std::slice::from_ref(&volume), None).unwrap();
    assert_eq!(ids(&prune(&world, ALL, Pretend::Yes)), std::slice::from_ref(&idle));
    assert_eq!(world.images.list().len(), 4, "it was only asked what would go");
    let done = prune(&world, ALL, Pretend::No);
    assert_eq!(ids(&done), [idle]);
    assert_eq!(done.images[0].names[0], "idle.test/x:1");
    assert!(done.images[0].freed_bytes > 0 && done.failed.is_empty(), "{done:?}");
    // Asked for by name a pinned image goes: pinning is advice for collections.
    world.images.remove_snapshot(&c).unwrap();
    assert_eq!(prune(&world, ALL, Pretend::No).images.len(), 2);
    block_on(world.images.remove("pinned.test/x:1")).unwrap();
    assert!(world.images.list().is_empty());
    assert_eq!(world.layer_folders().len(), 0);
}

#[test]
fn the_last_use_is_remembered_over_a_restart_and_a_container_renews_it() {
    let mut world = World::new();
    let old = import(&world, "old.test/x:1", &of("old"));
    let older = import(&world, "older.test/x:1", &of("older"));
    let used = import(&world, "used.test/x:1", &of("used"));
    let new = import(&world, "new.test/x:1", &of("new"));
    for (id, hours) in [(&old, 10), (&older, 20), (&used, 30)] {
        age(&world, id, hours);
    }
    world.reopen();
    let c = ContainerId::parse(&random_hex().unwrap()).unwrap();
    world.images.prepare_snapshot(&used, &c, &[], None).unwrap();
    age(&world, &used, 30);
    world.reopen();
    // Its removal is the end of its use.
    world.images.remove_snapshot(&c).unwrap();
    world.reopen();
    let rule = Prune { older_than: Duration::from_secs(15 * 3600), ..ALL };
    assert_eq!(ids(&prune(&world, rule, Pretend::Yes)), std::slice::from_ref(&older));
    let rule = Prune { older_than: Duration::from_secs(5 * 3600), ..ALL };
    assert_eq!(ids(&prune(&world, rule, Pretend::No)), [older, old]);
    let left: Vec<ImageId> = world.images.list().into_iter().map(|i| i.id).collect();
    assert_eq!(left.len(), 2);
    assert!(left.contains(&used) && left.contains(&new));
}

#[test]
fn without_more_only_images_without_a_tag_go() {
    let world = World::new();
    let old = import(&world, "x.test/x:1", &of("one"));
    let new = import(&world, "x.test/x:1", &of("two"));
    let rule = Prune { which: Which::Untagged, ..ALL };
    assert_eq!(ids(&prune(&world, rule, Pretend::No)), [old]);
    assert_eq!(world.images.list()[0].id, new);
}

#[test]
fn a_threshold_that_is_not_reached_removes_nothing_and_one_out_of_reach_is_told() {
    let world = World::new();
    import(&world, "x.test/x:1", &of("one"));
    let rule = |above, to| Prune { goal: Goal::Usage { above, to }, ..ALL };
    assert_eq!(prune(&world, rule(101, 0), Pretend::No), Pruned::default());
    assert_eq!(world.images.list().len(), 1);
    let done = prune(&world, rule(0, 0), Pretend::No);
    assert_eq!(done.images.len(), 1);
    assert!(done.missing_bytes > 0, "nobody empties a file system by removing one image");
}
