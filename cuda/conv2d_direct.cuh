// Convolution of float32 between few channels, where the tiles of a matrix product would stay half empty: pixels in
// threads, channels in registers, the weight in shared memory.
//
// A thread computes the 2 x 2 pixels of one window for CHANNELS output channels.  Row by row of the kernel it slides over
// the columns: with stride and dilation 1 each further tap takes two new numbers of the image for 4 * CHANNELS products.
// The weight of the block's channels lies in shared memory as (taps, CHANNELS): all threads of a warp read the same numbers.
// At the end come the bias, the ReLU and the maximum of the window, each where it is wanted.
//
// The gradient of the input with stride 1 is such a convolution too: of grad_output, with the weight turned round and its
// channels exchanged.  grad_output may be that of the pooled output with its codes, spread over the windows as it is read.

// The convolution as the kernel sees it: an image (N, C, H, W), a result (N, OC, OH, OW), windows (WH, WW) of it.
// weight_oc, weight_c: numbers from channel to channel in the weight; turned: its taps in the opposite order;
// groups_of_channels: of CHANNELS each.
struct Direct {
    int N, C, H, W, OC, KH, KW, OH, OW, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int weight_oc, weight_c, turned, relu, groups_of_channels, WH, WW;
};

// A row of the image, or nothing where it is outside.
struct Row {
    const f32* numbers;
    const u8* codes;    // of a row of pooled windows; null where the image is not pooled
    int code;           // of the row's even pixels
    int width;          // 0 outside

    template <bool POOLED>
    __device__ __forceinline__ f32 at(int w) const {
        if ((unsigned)w >= (unsigned)width) return 0.0f;
        if (!POOLED) return numbers[w];
        return codes[w >> 1] == code + (w & 1) ? numbers[w >> 1] : 0.0f;
    }
};

template <bool POOLED>
__device__ __forceinline__ Row row_at(const f32* plane, const u8* codes, int h, const Direct& g) {
    Row row;
    const bool inside = (unsigned)h < (unsigned)(POOLED ? g.H / 2 * 2 : g.H);
    row.width = inside ? (POOLED ? g.W / 2 * 2 : g.W) : 0;
    const int begin = inside ? (POOLED ? (h >> 1) * (g.W >> 1) : h * g.W) : 0;
    row.numbers = plane + begin;
    row.codes = POOLED ? codes + begin : nullptr;
    row.code = (h & 1) * 2;
    return row;
}

// output (N, OC, OH, OW), or, where codes are given, the maxima and codes (N, OC, WH, WW) of its windows;
// image (N, C, H, W), or POOLED: (N, C, H / 2, W / 2) with image_codes; weight; bias (OC) or null
// `block` counts those of 128 threads that work on it.
template <int CHANNELS, bool POOLED>
__device__ __forceinline__ void conv2d_direct(f32* output, u8* codes, const f32* image, const u8* image_codes,
                                              const f32* weight, const f32* bias, const Direct& g, int block) {
    extern __shared__ __align__(16) f32 weights[];      // (C * KH * KW, CHANNELS)
    const int kernel = g.KH * g.KW, first_oc = block % g.groups_of_channels * CHANNELS;
    for (int i = threadIdx.x; i < g.C * kernel * CHANNELS; i += blockDim.x) {
        const int tap = i / CHANNELS, oc = first_oc + i % CHANNELS, c = tap / kernel, place = tap - c * kernel;
        weights[i] = oc < g.OC ? weight[oc * g.weight_oc + c * g.weight_c + (g.turned ? kernel - 1 - place : place)] : 0.0f;
    }
    __syncthreads();
    const int window = block / g.groups_of_channels * blockDim.x + threadIdx.x;
    const int n = window / (g.WH * g.WW), place = window - n * (g.WH * g.WW);
    if (n >= g.N) return;
    const int wh = place / g.WW, ww = place - wh * g.WW;
    const int h0 = 2 * wh * g.stride_h - g.pad_top, w0 = 2 * ww * g.stride_w - g.pad_left;

    f32 sum[4][CHANNELS];
#pragma unroll
    for (int oc = 0; oc < CHANNELS; ++oc) {
        const f32 begin = bias && first_oc + oc < g.OC ? bias[first_oc + oc] : 0.0f;
#pragma unroll
        for (int pixel = 0; pixel < 4; ++pixel) sum[pixel][oc] = begin;
    }
    const f32* w = weights;
    auto add = [&](f32 top_left, f32 top_right, f32 bottom_left, f32 bottom_right) {
#pragma unroll
        for (int oc = 0; oc < CHANNELS; oc += 4) {
            const Lanes<f32, 4> of_tap = lanes<4>(w + oc, 0);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                sum[0][oc + i] += top_left * of_tap.lane[i];
                sum[1][oc + i] += top_right * of_tap.lane[i];
                sum[2][oc + i] += bottom_left * of_tap.lane[i];
                sum[3][oc + i] += bottom_right * of_tap.lane[i];
            }
        }
        w += CHANNELS;
    };
    const int plane = POOLED ? (g.H / 2) * (g.W / 2) : g.H * g.W;
    const bool slides = g.stride_w == 1 && g.dilation_w == 1;
    for (int c = 0; c < g.C; ++c) {
        const int begin = (n * g.C + c) * plane;
        for (int kh = 0; kh < g.KH; ++kh) {
            const int h = h0 + kh * g.dilation_h;
            const Row top = row_at<POOLED>(image + begin, image_codes + begin, h, g);
            const Row bottom = row_at<POOLED>(image + begin, image_codes + begin, h + g.stride_h, g);
            if (slides) {
                f32 top_left = top.at<POOLED>(w0), bottom_left = bottom.at<POOLED>(w0);
                for (int kw = 0; kw < g.KW; ++kw) {
                    const f32 top_right = top.at<POOLED>(w0 + kw + 1), bottom_right = bottom.at<POOLED>(w0 + kw + 1);
                    add(top_left, top_right, bottom_left, bottom_right);
                    top_left = top_right, bottom_left = bottom_right;
                }
            } else {
                for (int kw = 0; kw < g.KW; ++kw) {
                    const int left = w0 + kw * g.dilation_w, right = left + g.stride_w;
                    add(top.at<POOLED>(left), top.at<POOLED>(right), bottom.at<POOLED>(left), bottom.at<POOLED>(right));
                }
            }
        }
    }

#pragma unroll
    for (int oc = 0; oc < CHANNELS; ++oc) {
        if (first_oc + oc >= g.OC) continue;
        if (g.relu)
#pragma unroll
            for (int pixel = 0; pixel < 4; ++pixel)
                if (sum[pixel][oc] <= 0.0f) sum[pixel][oc] = 0.0f;
        const int channel = n * g.OC + first_oc + oc;
        if (codes) {
            // the first of several equal numbers counts, of several NaN the last, as in max_pool2d
            f32 best = sum[0][oc];
            int code = 0;
#pragma unroll
            for (int pixel = 1; pixel < 4; ++pixel)
                if (sum[pixel][oc] > best || sum[pixel][oc] != sum[pixel][oc]) best = sum[pixel][oc], code = pixel;
            output[channel * (g.WH * g.WW) + place] = best;
            codes[channel * (g.WH * g.WW) + place] = best <= 0.0f ? 4 : code;
            continue;
        }
        f32* rows = output + (channel * g.OH + 2 * wh) * g.OW + 2 * ww;
#pragma unroll
        for (int i = 0; i < 2; ++i, rows += g.OW) {
            if (2 * wh + i >= g.OH) break;
            if (g.OW % 2 == 0) {
                put_lanes(rows, 0, Lanes<f32, 2>{{sum[2 * i][oc], sum[2 * i + 1][oc]}});
            } else {
                rows[0] = sum[2 * i][oc];
                if (2 * ww + 1 < g.OW) rows[1] = sum[2 * i + 1][oc];
            }
        }
    }
}
