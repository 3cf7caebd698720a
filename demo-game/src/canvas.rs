//! Pictures painted by arithmetic when the game starts: no files to load, none to lose.

use bevy::asset::RenderAssetUsages;
use bevy::image::{ImageFilterMode, ImageSampler, ImageSamplerDescriptor};
use bevy::math::Vec2;
use bevy::prelude::*;
use bevy::render::render_resource::{Extent3d, TextureDimension, TextureFormat};

/// Red, green, blue and opacity, 0 to 1, as sRGB has them.
pub(crate) type Paint = [f32; 4];

/// A picture in the making. Row 0 is on top.
#[derive(Clone, Debug)]
pub(crate) struct Canvas {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pixels: Vec<Paint>,
}

impl Canvas {
    /// A canvas full of `paint`.
    pub(crate) fn new(width: usize, height: usize, paint: Paint) -> Self {
        Self { width, height, pixels: vec![paint; width * height] }
    }

    /// Paints every pixel by what is at its middle.
    pub(crate) fn fill(&mut self, paint: impl Fn(Vec2) -> Paint) {
        let width = self.width;
        for (index, pixel) in self.pixels.iter_mut().enumerate() {
            *pixel = paint(Vec2::new((index % width) as f32 + 0.5, (index / width) as f32 + 0.5));
        }
    }

    /// Lays `paint` over the pixels of a box, as much as `cover` says of each pixel's middle. The opacity of what lies below
    /// grows, its color where it was transparent is replaced.
    pub(crate) fn cover(&mut self, low: Vec2, high: Vec2, paint: Paint, cover: impl Fn(Vec2) -> f32) {
        let (left, right) = (low.x.floor().max(0.0) as usize, (high.x.ceil().max(0.0) as usize).min(self.width));
        let (top, bottom) = (low.y.floor().max(0.0) as usize, (high.y.ceil().max(0.0) as usize).min(self.height));
        for y in top..bottom {
            for x in left..right {
                let alpha = paint[3] * cover(Vec2::new(x as f32 + 0.5, y as f32 + 0.5)).clamp(0.0, 1.0);
                if alpha > 0.0 {
                    let below = &mut self.pixels[y * self.width + x];
                    let total = alpha + below[3] * (1.0 - alpha);
                    for channel in 0..3 {
                        below[channel] = (paint[channel] * alpha + below[channel] * below[3] * (1.0 - alpha)) / total;
                    }
                    below[3] = total;
                }
            }
        }
    }

    /// A line from `from` to `to`, thinner towards its end.
    pub(crate) fn stroke(&mut self, from: Vec2, to: Vec2, widths: [f32; 2], paint: Paint) {
        let margin = Vec2::splat(widths[0].max(widths[1]) + 1.0);
        self.cover(from.min(to) - margin, from.max(to) + margin, paint, |point| {
            let along = ((point - from).dot(to - from) / (to - from).length_squared().max(1e-6)).clamp(0.0, 1.0);
            let width = widths[0] + (widths[1] - widths[0]) * along;
            // Thinner than a pixel is fainter, not narrower.
            (width / 2.0 + 0.5 - point.distance(from + (to - from) * along)).min(width)
        });
    }

    /// A disk, with an edge `soft` pixels wide.
    pub(crate) fn disk(&mut self, middle: Vec2, radius: Vec2, soft: f32, paint: Paint) {
        self.cover(middle - radius - soft, middle + radius + soft, paint, |point| {
            let distance = ((point - middle) / radius).length();
            (1.0 - distance) * radius.min_element() / soft + 0.5
        });
    }

    /// A picture for the graphics card, with smaller copies of itself if `mipmaps`: for what is shown much smaller than it is.
    pub(crate) fn into_image(self, mipmaps: bool) -> Image {
        let size = Extent3d { width: self.width as u32, height: self.height as u32, depth_or_array_layers: 1 };
        let mut bytes = Vec::new();
        let mut levels = 0;
        let mut level = self;
        loop {
            level.write(&mut bytes);
            levels += 1;
            if !mipmaps || level.width % 2 + level.height % 2 > 0 || level.width.min(level.height) <= 16 {
                break;
            }
            level = level.halved();
        }
        let mut image =
            Image::new_uninit(size, TextureDimension::D2, TextureFormat::Rgba8UnormSrgb, RenderAssetUsages::RENDER_WORLD);
        image.texture_descriptor.mip_level_count = levels;
        image.data = Some(bytes);
        let linear = ImageSamplerDescriptor { mipmap_filter: ImageFilterMode::Linear, ..ImageSamplerDescriptor::linear() };
        image.sampler = ImageSampler::Descriptor(linear);
        image
    }

    /// Writes the pixels as bytes, scattered by half a step so that gradients show no bands.
    fn write(&self, bytes: &mut Vec<u8>) {
        for (index, pixel) in self.pixels.iter().enumerate() {
            let (x, y) = ((index % self.width) as f32, (index / self.width) as f32);
            // Jimenez' interleaved gradient noise (*Next Generation Post Processing in Call of Duty*, 2014).
            let noise = (52.982_918 * (0.067_110_56 * x + 0.005_837_15 * y).fract()).fract() - 0.5;
            let color = [pixel[0], pixel[1], pixel[2]].map(|value| (value * 255.0 + noise).round().clamp(0.0, 255.0) as u8);
            bytes.extend(color);
            bytes.push((pixel[3] * 255.0).round().clamp(0.0, 255.0) as u8);
        }
    }

    fn halved(&self) -> Self {
        let mut half = Self::new(self.width / 2, self.height / 2, [0.0; 4]);
        for (index, pixel) in half.pixels.iter_mut().enumerate() {
            let (x, y) = (index % half.width * 2, index / half.width * 2);
            let four = [0, 1, self.width, self.width + 1].map(|step| self.pixels[y * self.width + x + step]);
            let alpha: f32 = four.iter().map(|part| part[3]).sum::<f32>() / 4.0;
            for channel in 0..3 {
                // What cannot be seen has no say in the color, unless nothing can be seen.
                let seen: f32 = four.iter().map(|part| part[channel] * part[3]).sum::<f32>() / 4.0;
                let plain: f32 = four.iter().map(|part| part[channel]).sum::<f32>() / 4.0;
                pixel[channel] = if alpha > 1e-4 { seen / alpha } else { plain };
            }
            pixel[3] = alpha;
        }
        half
    }
}

/// Colors between `stops`, by height from 0 to 1; mixed in Oklab, where violet lies between blue and orange, and not gray.
pub(crate) fn gradient(stops: &[(f32, [u8; 3])], at: f32) -> [f32; 3] {
    let oklab = |color: [u8; 3]| Oklaba::from(Srgba::rgb_u8(color[0], color[1], color[2]));
    let above = stops.iter().position(|(height, _)| *height >= at).unwrap_or(stops.len() - 1).max(1);
    let ((low, from), (high, to)) = (stops[above - 1], stops[above]);
    let part = ((at - low) / (high - low)).clamp(0.0, 1.0);
    Srgba::from(oklab(from).mix(&oklab(to), part)).to_f32_array_no_alpha()
}

/// Smooth noise from -1 to 1, of features one unit wide.
pub(crate) fn noise(at: Vec2, seed: u32) -> f32 {
    let cell = at.floor();
    let part = at - cell;
    let smooth = part * part * (Vec2::splat(3.0) - 2.0 * part);
    let corner = |x: f32, y: f32| {
        let mut hash =
            ((cell.x + x) as i32 as u32).wrapping_mul(0x9e37_79b1) ^ ((cell.y + y) as i32 as u32).wrapping_mul(0x85eb_ca77);
        hash = (hash ^ seed.wrapping_mul(0xc2b2_ae3d)).wrapping_mul(0x27d4_eb2f);
        hash = (hash ^ (hash >> 15)).wrapping_mul(0x2c1b_3c6d);
        (hash ^ (hash >> 13)) as f32 / u32::MAX as f32 * 2.0 - 1.0
    };
    let (top, bottom) = (corner(0.0, 0.0).lerp(corner(1.0, 0.0), smooth.x), corner(0.0, 1.0).lerp(corner(1.0, 1.0), smooth.x));
    top.lerp(bottom, smooth.y)
}

/// Noise of `octaves` sizes laid over each other, about -1 to 1.
pub(crate) fn fractal(at: Vec2, octaves: u32, seed: u32) -> f32 {
    let (mut sum, mut size, mut scale) = (0.0, 0.5, 1.0);
    for octave in 0..octaves {
        sum += noise(at * scale, seed + octave) * size;
        (size, scale) = (size * 0.5, scale * 2.03);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_pass_through_their_stops() {
        let stops = [(0.0, [0, 0, 0]), (0.5, [255, 0, 0]), (1.0, [255, 255, 255])];
        for (height, color) in stops {
            let painted = gradient(&stops, height);
            assert!(painted.iter().zip(color).all(|(a, b)| (a - f32::from(b) / 255.0).abs() < 0.01), "{painted:?} at {height}");
        }
        assert!(gradient(&stops, -1.0).iter().chain(&gradient(&stops, 2.0)).all(|channel| channel.is_finite()));
    }

    #[test]
    fn images_have_the_bytes_that_their_levels_need() {
        let image = Canvas::new(128, 64, [1.0; 4]).into_image(true);
        assert_eq!(image.texture_descriptor.mip_level_count, 3);
        assert_eq!(image.data.map(|bytes| bytes.len()), Some(4 * (128 * 64 + 64 * 32 + 32 * 16)));
    }

    #[test]
    fn what_is_laid_over_covers() {
        let mut canvas = Canvas::new(8, 8, [0.0, 0.0, 0.0, 0.0]);
        canvas.disk(Vec2::splat(4.0), Vec2::splat(3.0), 1.0, [1.0, 0.5, 0.0, 1.0]);
        assert_eq!(canvas.pixels[4 * 8 + 4], [1.0, 0.5, 0.0, 1.0]);
        assert_eq!(canvas.pixels[0][3], 0.0);
        canvas.stroke(Vec2::new(-5.0, 4.0), Vec2::new(50.0, 4.0), [2.0, 2.0], [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(canvas.pixels[4 * 8 + 4], [0.0, 0.0, 1.0, 1.0]);
    }
}
