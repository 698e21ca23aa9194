// Convolution of float32 between few channels, with ReLU and 2x2 max pooling in the same pass: conv2d_direct.cuh.
//
// minidl-uses: conv2d_direct.cuh

#define KERNEL(name, CHANNELS, POOLED)                                                                                 \
    extern "C" __global__ void __launch_bounds__(128, 7)                                                               \
    name(f32* output, u8* codes, const f32* image, const u8* image_codes, const f32* weight, const f32* bias,          \
         Direct g) {                                                                                                   \
        conv2d_direct<CHANNELS, POOLED>(output, codes, image, image_codes, weight, bias, g, blockIdx.x);               \
    }
KERNEL(conv2d_direct_4_f32, 4, false)
KERNEL(conv2d_direct_8_f32, 8, false)
KERNEL(conv2d_direct_pooled_4_f32, 4, true)
KERNEL(conv2d_direct_pooled_8_f32, 8, true)
