use proptest::prelude::*;

use super::*;

const WHOLE: u64 = 7;

fn split(number: u32, hash: u64, key: i32) -> Split {
    Split { number, hash, address: 0x10, key, took: Duration::ZERO }
}

/// Processes of one communicator, by rank, each with a split: part and key.
fn numbers(ranks: u32, places: &[(u32, u64, i32)]) -> Vec<(u32, u64, u32, u32)> {
    let mut parts = Parts::new();
    for (rank, hash, key) in places {
        let mut splits = Splits::default();
        splits.add(split(0, *hash, *key));
        let identity = Identity { hash: WHOLE, rank: Some(*rank), ranks: Some(ranks) };
        parts.add(100 + rank, &identity, &splits);
    }
    let numbers = parts.numbers().into_iter();
    let mut numbers: Vec<_> =
        numbers.map(|number| (number.process, number.hash, number.rank, number.ranks)).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn processes_are_in_the_order_of_keys_and_of_their_numbers() {
    let places = [(0, 1, 5), (1, 2, 0), (2, 1, -5), (3, 1, 5)];
    let expected = [(100, 1, 1, 3), (101, 2, 0, 1), (102, 1, 0, 3), (103, 1, 2, 3)];
    assert_eq!(numbers(4, &places), expected);
    // One is in no part.
    let places = [(0, 1, 0), (1, 0, 0), (2, 1, 0)];
    assert_eq!(numbers(3, &places), [(100, 1, 0, 2), (102, 1, 1, 2)]);
}

#[test]
fn without_all_of_them_nothing_is_known() {
    assert_eq!(numbers(3, &[(0, 1, 0), (2, 1, 0)]), []);
    assert_eq!(numbers(2, &[(0, 1, 0), (0, 1, 0)]), [], "twice the same");
    assert_eq!(numbers(2, &[(1, 1, 0), (2, 1, 0)]), []);
    let mut parts = Parts::new();
    let unknown = Identity { hash: WHOLE, rank: None, ranks: Some(1) };
    let mut splits = Splits::default();
    splits.add(split(0, 1, 0));
    parts.add(1, &unknown, &splits);
    assert_eq!(parts.numbers(), []);
}

#[test]
fn splits_are_counted_and_the_last_ones_remembered() {
    let mut splits = Splits::default();
    for number in 0..100 {
        splits.add(split(number, 1, 0));
    }
    assert_eq!((splits.count(), splits.last.len()), (100, MAX_SPLITS));
    let mut parts = Parts::new();
    parts.add(1, &Identity { hash: WHOLE, rank: Some(0), ranks: Some(1) }, &splits);
    assert_eq!(parts.numbers().len(), MAX_SPLITS);
}

proptest! {
    #[test]
    fn each_number_is_given_once(places in proptest::collection::vec((0_u64..4, -3_i32..3), 1..40)) {
        let ranks = places.len() as u32;
        let places: Vec<_> =
            (0..).zip(places).map(|(rank, (hash, key))| (rank, hash, key)).collect();
        let found = numbers(ranks, &places);
        prop_assert_eq!(found.len(), places.iter().filter(|(_, hash, _)| *hash != 0).count());
        for part in 1..4 {
            let members = found.iter().filter(|(_, hash, ..)| *hash == part);
            let mut numbers: Vec<_> = members.clone().map(|(_, _, rank, _)| *rank).collect();
            numbers.sort_unstable();
            prop_assert!((0..).zip(&numbers).all(|(expected, rank)| expected == *rank));
            prop_assert!(members.clone().all(|(_, _, _, ranks)| *ranks as usize == numbers.len()));
        }
    }
}
