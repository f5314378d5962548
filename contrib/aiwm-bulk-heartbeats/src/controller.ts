import { Body, Controller, HttpCode, Post, UseGuards } from '@nestjs/common';
import { BULK_HEARTBEATS_PATH } from './body';
import { BulkHeartbeatsDto, type BulkResults } from './dto';
import { ServiceTokenGuard } from './guard';
import { BulkHeartbeatsService } from './service';

@Controller(BULK_HEARTBEATS_PATH)
export class BulkHeartbeatsController {
  constructor(private readonly service: BulkHeartbeatsService) {}

  @Post()
  @HttpCode(200)
  @UseGuards(ServiceTokenGuard)
  async record(@Body() body: BulkHeartbeatsDto): Promise<BulkResults> {
    return { results: await this.service.record(body.heartbeats) };
  }
}
