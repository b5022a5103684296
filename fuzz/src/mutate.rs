//! Changes inputs the way libFuzzer does, without its knowledge of coverage.

/// A small generator of random numbers (SplitMix64): the same seed gives the same inputs.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }
}

/// The longest input that is made.
const MAX_LEN: usize = 4096;
/// Numbers at which code tends to be wrong.
const EDGES: [u64; 10] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0xffff_ffff_ffff_ffff];

/// Makes a new input out of one of `seeds`, by one to eight changes.
pub fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(8) {
        change(random, &mut input, seeds);
    }
    input.truncate(MAX_LEN);
    input
}

fn change(random: &mut Random, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let len = input.len();
    if len == 0 {
        return input.push(random.number() as u8);
    }
    let at = random.below(len);
    match random.below(9) {
        0 => input[at] ^= 1 << random.below(8),
        1 => input[at] = random.number() as u8,
        2 => input.insert(at, random.number() as u8),
        3 => input.truncate(at),
        4 => {
            input.drain(at..at + random.below(len - at) + 1);
        }
        5 => overwrite(random, &mut input[at..]),
        6 => {
            let piece = input[at..at + random.below(len - at) + 1].to_vec();
            let to = random.below(len);
            input.splice(to..to, piece);
        }
        7 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => {
            let other = random.below(len);
            input.swap(at, other);
        }
    }
}

/// Puts an edge number of 1, 2, 4 or 8 bytes, of either order, at the front.
fn overwrite(random: &mut Random, tail: &mut [u8]) {
    let edge = EDGES[random.below(EDGES.len())];
    let width = 1 << random.below(4);
    let bytes = if random.below(2) == 0 { edge.to_le_bytes() } else { edge.to_be_bytes() };
    let bytes = if bytes == edge.to_le_bytes() { &bytes[..width] } else { &bytes[8 - width..] };
    for (to, from) in tail.iter_mut().zip(bytes) {
        *to = *from;
    }
}
