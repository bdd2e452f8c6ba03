/* The few calls of the CUDA driver that torch makes, answered; see runtime.cpp. */
typedef int CUresult;
typedef int CUdevice;
typedef void* CUcontext;

CUresult cuInit(unsigned flags) { return 0; }
CUresult cuDriverGetVersion(int* version) { *version = 13000; return 0; }
CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned* flags, int* active) {
  *flags = 0;
  *active = 1;
  return 0;
}
CUresult cuDeviceGet(CUdevice* device, int number) { *device = number; return 0; }
CUresult cuDeviceGetCount(int* count) { *count = 1; return 0; }
CUresult cuCtxGetCurrent(CUcontext* context) { *context = (void*)8; return 0; }
CUresult cuCtxSetCurrent(CUcontext context) { return 0; }
CUresult cuGetErrorString(CUresult error, const char** text) { *text = "stand-in"; return 0; }
CUresult cuDeviceGetAttribute(int* value, int which, CUdevice device) { *value = 0; return 0; }
